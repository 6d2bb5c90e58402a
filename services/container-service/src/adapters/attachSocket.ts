/**
 * conmon's attach socket (SOCK_SEQPACKET): input to a container or exec, and an exec's output.
 *
 * conmon takes the end of a connection for the end of the input, unless it was told to leave that open. A connection that is to outlast this process is therefore
 * held by another one as well, which ends with conmon.
 *
 * Messages above 32 KiB would be cut and queued ones joined, so each is at most that and is awaited. The first byte of an output message
 * names its stream: 2 stdout, 3 stderr.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { closeDescriptor, connectSeqpacket, kill, posixSpawn, shutdown } from '@flotilla/syscalls';
import { SeqpacketSocket } from 'node-unix-socket';
import type { KeptInput, OutputListener, StdioConnection } from '../monitor.ts';
import type { Place } from './conmon.ts';
import { reap } from './reap.ts';

const largestMessage = 32 * 1024;
const keeperPath = '/usr/bin/tail';
const keeperDescriptor = 3;

export class AttachSocket implements StdioConnection {
  private readonly socket: SeqpacketSocket;
  private readonly ended: Promise<void>;
  private gone = false;

  /** @param inputOnly - nothing is read from it, which looks like an end and is none. */
  private constructor(socket: SeqpacketSocket, inputOnly = false) {
    this.socket = socket;
    this.ended = new Promise((resolve) => {
      const finish = (): void => {
        this.gone = true;
        resolve();
      };
      if (!inputOnly) socket.on('end', finish);
      socket.on('close', finish);
      socket.on('error', finish);
    });
  }

  /**
   * Connects to the socket in a bundle. Its path may be longer than a socket address can hold, so it is named through an open directory.
   *
   * @param onOutput - every message's bytes; without it they are thrown away.
   */
  static async connect(bundle: string, onOutput?: OutputListener): Promise<AttachSocket> {
    const directory = openSync(bundle, constants.O_DIRECTORY | constants.O_RDONLY);
    try {
      const socket = new SeqpacketSocket();
      const attached = new AttachSocket(socket);
      socket.on('data', (message: Buffer) => {
        const stream = message[0];
        if (onOutput !== undefined && (stream === 2 || stream === 3)) onOutput(stream === 2 ? 1 : 2, message.subarray(1));
      });
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject);
        socket.connect(join('/proc/self/fd', `${directory}`, 'attach'), () => {
          socket.off('error', reject);
          resolve();
        });
      });
      return attached;
    } finally {
      closeSync(directory);
    }
  }

  /** Connects for input that does not end with this process. @throws SyscallError */
  static connectKept(bundle: string, monitorPid: number, place: Place): KeptInput {
    const directory = openSync(bundle, constants.O_DIRECTORY | constants.O_RDONLY);
    let fd: number;
    try {
      fd = connectSeqpacket(join('/proc/self/fd', `${directory}`, 'attach'));
    } finally {
      closeSync(directory);
    }
    let keeper: number;
    try {
      // Nobody reads from it while no instance lives, and conmon waits for who does not read.
      shutdown(fd, 'read');
      keeper = posixSpawn(keeperPath, ['tail', `--pid=${monitorPid}`, '-f', '/dev/null'], {
        fds: { [keeperDescriptor]: fd },
        cwd: '/',
        setsid: true,
      });
    } catch (error) {
      closeDescriptor(fd);
      throw error;
    }
    // Where it could not be put, it ends with this service: the input is lost then, and nothing else.
    place(keeper).catch(() => undefined);
    const attached = new AttachSocket(new SeqpacketSocket(fd), true);
    return {
      write: (bytes) => attached.write(bytes),
      endInput: () => attached.endInput(),
      whenEnded: () => attached.whenEnded(),
      close: () => {
        attached.close();
        kill(keeper, 9);
        void reap(keeper);
      },
      leave: () => attached.close(),
    };
  }

  /** Resolves when conmon has closed its side: no more output comes. */
  whenEnded(): Promise<void> {
    return this.ended;
  }

  /** Sends input; resolves when the kernel has taken all of it, or when the process does not want more. */
  async write(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length && !this.gone; at += largestMessage) {
      const length = Math.min(largestMessage, bytes.length - at);
      await Promise.race([new Promise<void>((resolve) => this.socket.write(bytes, at, length, () => resolve())), this.ended]);
    }
  }

  /** Half-closes: the process reads the end of its input, unless conmon leaves it open. */
  endInput(): void {
    if (!this.gone) this.socket.end();
  }

  close(): void {
    this.socket.destroy();
  }
}
