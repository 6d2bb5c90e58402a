/** A client's input on its way to a process: each piece awaited, the detach keys noticed, and the client told what has arrived. */
import type { Socket } from 'node:net';
import { aborted } from '@flotilla/service-kit';
import { writeTaken } from '@flotilla/streams';
import type { DetachScanner } from './detachKeys.ts';
import type { StdioConnection } from './monitor.ts';

/** Tells of input that may have reached its process while its client does not know of it yet: sent again it could be doubled. */
export interface InputMark {
  /** @returns whether it may be sent: false when another stream has taken over, which sends it too. */
  begin(): boolean;
  end(): void;
}

/** Copies input until it ends, the process wants no more, the detach keys come or the signal fires. @returns whether the detach keys came. */
export async function forward(
  stream: Socket,
  socket: Pick<StdioConnection, 'write' | 'whenEnded'>,
  scanner: DetachScanner | undefined,
  signal: AbortSignal,
  mark?: InputMark,
): Promise<boolean> {
  const iterator = stream.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]();
  const stopped = Promise.race([aborted(signal), socket.whenEnded()]).then(() => ({ done: true as const, value: undefined }));
  for (;;) {
    let step: IteratorResult<Buffer, unknown>;
    try {
      step = (await Promise.race([iterator.next(), stopped])) as IteratorResult<Buffer, unknown>;
    } catch {
      return false;
    }
    if (step.done) return false;
    const { output, detached } = scanner?.scan(step.value) ?? { output: step.value, detached: false };
    if (mark?.begin() === false) return false;
    if (output.length > 0) await socket.write(output);
    writeTaken(stream, step.value.length, () => mark?.end());
    if (detached) return true;
  }
}

/** Throws input away, as it comes. Without a reader a socket would not notice that its peer has closed it. */
export function discard(stream: Socket, onInput: () => void = () => undefined): void {
  stream.on('data', (chunk: Buffer) => {
    onInput();
    writeTaken(stream, chunk.length);
  });
}
