/**
 * Containers that are being made: they hold a snapshot and volumes, and have no record yet. A file each says who makes it and what it holds, so that another
 * instance can take away what a killed one has begun, while others go on making theirs.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Paths } from './paths.ts';
import { isAlive, startTimeOf } from './processes.ts';

export interface Draft {
  readonly id: string;
  readonly volumes: readonly {
    readonly name: string;
    /** it is one without a name of its own, made for this container. */
    readonly created: boolean;
  }[];
  /** keys of those that it has beside its own. */
  readonly snapshots: readonly string[];
}

/** In place of a maker: there is no such process. */
const nobody = '0 0';

export class Drafts {
  private readonly paths: Paths;

  constructor(paths: Paths) {
    this.paths = paths;
  }

  /**
   * @param volumes - those that it will hold.
   * @param snapshots - keys of those that it will have beside its own.
   */
  begin(id: string, volumes: Draft['volumes'], snapshots: readonly string[]): void {
    mkdirSync(this.paths.drafts, { recursive: true, mode: 0o711 });
    const held = [
      ...volumes.map(({ name, created }) => (created ? `${name} created` : name)),
      ...snapshots.map((key) => `${key} snapshot`),
    ];
    writeFileSync(this.file(id), lines([`${process.pid} ${startTimeOf(process.pid)}`, ...held]));
  }

  /** Its maker lives and has given it up, and something is left of it. */
  abandon(id: string): void {
    const [, ...held] = read(this.file(id)).split('\n').slice(0, -1);
    writeFileSync(this.file(id), lines([nobody, ...held]));
  }

  /** Whether somebody is making it, or something is left of it. */
  has(id: string): boolean {
    return existsSync(this.file(id));
  }

  /** It has its record, or nothing is left of it. */
  end(id: string): void {
    rmSync(this.file(id), { force: true });
  }

  /** Those whose maker is gone. */
  abandoned(): Draft[] {
    return readdirSync(this.paths.drafts).flatMap((id) => {
      const [maker = '', ...held] = read(this.file(id)).split('\n').slice(0, -1);
      const [pid, start = ''] = maker.split(' ');
      // One without a whole first line is just being written.
      if (maker === '' || isAlive(Number(pid), start)) return [];
      const volumes = new Map<string, boolean>();
      const snapshots: string[] = [];
      for (const line of held) {
        const [name = '', how] = line.split(' ');
        if (how === 'snapshot') snapshots.push(name);
        else volumes.set(name, how === 'created' || volumes.get(name) === true);
      }
      return [{ id, volumes: [...volumes].map(([name, created]) => ({ name, created })), snapshots }];
    });
  }

  private file(id: string): string {
    return join(this.paths.drafts, id);
  }
}

function lines(words: readonly string[]): string {
  return words.map((word) => `${word}\n`).join('');
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // Its maker has finished meanwhile.
    return '';
  }
}
