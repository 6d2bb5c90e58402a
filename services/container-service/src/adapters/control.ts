/** conmon's control FIFO: the terminal's size, and opening the log anew after a rotation. */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Two messages in one read of conmon's run the first twice and lose the second: this much lies between them. */
const gapMs = 20;

const queues = new Map<string, Promise<void>>();

function send(bundle: string, message: string): void {
  // Without O_NONBLOCK the open would wait for a reader that may be dead.
  const fd = openSync(join(bundle, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    writeSync(fd, message);
  } finally {
    closeSync(fd);
  }
}

/** Messages to one conmon go one after another, with a gap. Failures are the caller's own. */
function enqueue(bundle: string, message: string): Promise<void> {
  const before = queues.get(bundle) ?? Promise.resolve();
  const sent = before.then(() => send(bundle, message));
  const after = sent.catch(() => undefined).then(() => new Promise<void>((resolve) => setTimeout(resolve, gapMs)));
  queues.set(bundle, after);
  void after.then(() => {
    if (queues.get(bundle) === after) queues.delete(bundle);
  });
  return sent;
}

/** Sets the terminal's size, in characters. */
export function resizeTerminal(bundle: string, height: number, width: number): Promise<void> {
  return enqueue(bundle, `1 ${height} ${width}\n`);
}

/** Makes conmon close its log and open the path again. */
export function reopenLog(bundle: string): Promise<void> {
  return enqueue(bundle, '2 0 0\n');
}
