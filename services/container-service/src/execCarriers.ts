/**
 * Which process carries an attached exec's stream to its client (a gateway), kept in files: when it dies its client sees no more than an end, and asks at the next
 * gateway how the exec ended. Whoever answers finds here that this was no end, whichever instance served the stream.
 *
 * A file is there from the start of the exec until its carrier, alive, has closed the stream: it has passed on all of it then, its client has left, or it tells its
 * client itself that the stream broke. The file of one that died stays until the exec is forgotten.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { descriptorOf, peerCredentials } from '@flotilla/syscalls';
import type { Paths } from './paths.ts';
import { isAtWork, startTimeOf } from './processes.ts';

interface Process {
  readonly pid: number;
  /** start time in clock ticks since boot; empty when it was gone already */
  readonly start: string;
}

/** The file. */
interface Carried {
  readonly carrier: Process;
  /** the instance of container-service that has the other end of the stream, and takes the file away */
  readonly server: Process;
}

const unfinished = '.new';

export class ExecCarriers {
  private readonly paths: Pick<Paths, 'carriers'>;

  constructor(paths: Pick<Paths, 'carriers'>) {
    this.paths = paths;
    mkdirSync(paths.carriers, { recursive: true, mode: 0o700 });
  }

  /** From now on whoever is at the other end of the stream carries it. One that is on another machine, or not to be seen from here, is not watched. */
  begin(execId: string, stream: Socket): void {
    const carrier = peerOf(stream);
    if (carrier === undefined) return;
    const path = this.path(execId);
    writeFileSync(`${path}${unfinished}`, JSON.stringify({ carrier, server: processOf(process.pid) } satisfies Carried), { mode: 0o600 });
    renameSync(`${path}${unfinished}`, path);
    stream.once('close', () => {
      if (isAtWork(carrier.pid, carrier.start)) this.forget(execId);
    });
  }

  /** Whether the carrier died before it had closed the stream: its client may lack the end of it. */
  hasDied(execId: string): boolean {
    const carried = this.read(execId);
    return carried !== undefined && !isAtWork(carried.carrier.pid, carried.carrier.start);
  }

  /** Of streams whose instance is gone: a carrier that is there knows that it broke. */
  forgetBroken(): void {
    for (const id of readdirSync(this.paths.carriers)) {
      const carried = id.endsWith(unfinished) ? undefined : this.read(id);
      if (carried === undefined || isAtWork(carried.server.pid, carried.server.start)) continue;
      if (isAtWork(carried.carrier.pid, carried.carrier.start)) this.forget(id);
    }
  }

  forget(execId: string): void {
    rmSync(this.path(execId), { force: true });
  }

  private path(execId: string): string {
    return join(this.paths.carriers, execId);
  }

  private read(execId: string): Carried | undefined {
    try {
      return JSON.parse(readFileSync(this.path(execId), 'utf8')) as Carried;
    } catch {
      return undefined;
    }
  }
}

function processOf(pid: number): Process {
  return { pid, start: startTimeOf(pid) ?? '' };
}

function peerOf(stream: Socket): Process | undefined {
  const fd = descriptorOf(stream);
  const pid = fd === undefined ? 0 : peerCredentials(fd).pid;
  return pid > 0 ? processOf(pid) : undefined;
}
