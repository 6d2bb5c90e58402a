/** An exec's output on its way to a client: held in memory up to a bound, beyond which the process is made to wait. */
import type { Socket } from 'node:net';
import { writeOutput } from '@flotilla/streams';

/** Output that waits for a slow client before the process is made to wait too, and where it may go on. */
const mostWaitingBytes = 4 * 1024 * 1024;
const fewWaitingBytes = 512 * 1024;

/** What produces the output. */
export interface OutputSource {
  /** Makes it stop; false when it cannot be stopped yet. */
  hold(): boolean;
  letGo(): void;
}

export class ExecOutput {
  private readonly source: OutputSource;
  private readonly waiting: Buffer[] = [];
  private waitingBytes = 0;
  private held = false;
  private discards = false;
  private wake: () => void = () => undefined;

  constructor(source: OutputSource) {
    this.source = source;
  }

  /** @param chunk - is kept: it must not be used again. */
  add(chunk: Buffer): void {
    if (this.discards) return;
    this.waiting.push(chunk);
    this.waitingBytes += chunk.length;
    if (this.waitingBytes > mostWaitingBytes && !this.held) this.held = this.source.hold();
    this.wake();
  }

  /** Sends all that comes, until `ended` and nothing waits any more, or the signal fires. */
  async sendTo(stream: Socket, ended: Promise<void>, signal: AbortSignal): Promise<void> {
    let over = false;
    const notice = (): void => {
      over = true;
      this.wake();
    };
    void ended.then(notice);
    signal.addEventListener('abort', notice, { once: true });
    for (;;) {
      const chunks = this.waiting.splice(0);
      if (chunks.length > 0) {
        const bytes = this.waitingBytes;
        await writeOutput(stream, chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks));
        this.waitingBytes -= bytes;
        if (this.waitingBytes <= fewWaitingBytes) this.letGo();
        continue;
      }
      if (over) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        if (this.waiting.length > 0 || over) resolve();
      });
    }
  }

  letGo(): void {
    if (this.held) this.source.letGo();
    this.held = false;
  }

  /** Nobody reads it any more: a client that has left does not take the process' output away from it. */
  discard(): void {
    this.discards = true;
    this.waiting.length = 0;
    this.waitingBytes = 0;
  }
}
