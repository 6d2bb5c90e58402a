/** What runs in a stack, asked of its supervisor directly: `flotilla ps` is a Node of its own, too much for a condition that is looked at every 20 ms. */
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';

/** What a supervisor says of one process of its stack. */
export interface StackProcess {
  readonly service: string;
  readonly instance: string;
  readonly pid: number;
  readonly healthy: boolean;
  /** It ends when nothing is under way in it any more. */
  readonly draining: boolean;
}

const answerMs = 15_000;

/** @returns undefined when no supervisor answers at `path`. */
export async function askSupervisor(path: string): Promise<StackProcess[] | undefined> {
  const socket = connect(path);
  socket.setTimeout(answerMs, () => socket.destroy());
  // Not ended: the answer ends the connection.
  socket.write('{"command":"ps"}\n');
  try {
    const answer = JSON.parse(await text(socket)) as { readonly result?: { readonly processes: StackProcess[] } };
    return answer.result?.processes;
  } catch {
    return undefined;
  }
}
