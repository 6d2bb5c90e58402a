/** Progress on its way from work that reports when it likes to a reader that takes its time. Bars that nobody has read yet are replaced, not queued. */
import type { ProgressMessage } from '@flotilla/engine-api';

interface Queued {
  line: ProgressMessage;
}

export class LineQueue {
  private readonly lines: Queued[] = [];
  /** The newest unread line of each id: a slow reader costs a line an id and step, however long the work goes on. */
  private readonly newest = new Map<string, Queued>();
  private wake: () => void = () => undefined;
  private ended = false;
  private error: unknown;

  readonly push = (line: ProgressMessage): void => {
    const unread = line.id === undefined ? undefined : this.newest.get(line.id);
    if (unread !== undefined && unread.line.status === line.status && line.progressDetail !== undefined) unread.line = line;
    else {
      const queued = { line };
      this.lines.push(queued);
      if (line.id !== undefined) this.newest.set(line.id, queued);
    }
    this.wake();
  };

  /** Says how the work ended. */
  end(error?: unknown): void {
    this.ended = true;
    this.error = error;
    this.wake();
  }

  /** The lines as they come; throws the work's error when every line before it has been read. */
  async *read(): AsyncGenerator<ProgressMessage> {
    for (;;) {
      const queued = this.lines.shift();
      if (queued !== undefined) {
        const { line } = queued;
        if (line.id !== undefined && this.newest.get(line.id) === queued) this.newest.delete(line.id);
        yield line;
        continue;
      }
      if (this.ended) {
        if (this.error !== undefined) throw this.error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}

/** Runs work that reports lines, as the stream of them. An error after the first line becomes the last line, made by `describe`. */
export async function* withProgress(
  work: (push: (line: ProgressMessage) => void) => Promise<void>,
  describe: (error: unknown) => ProgressMessage,
): AsyncGenerator<ProgressMessage> {
  const queue = new LineQueue();
  work(queue.push).then(
    () => queue.end(),
    (error: unknown) => queue.end(error ?? new Error('failed')),
  );
  let started = false;
  try {
    for await (const line of queue.read()) {
      started = true;
      yield line;
    }
  } catch (error) {
    if (!started) throw error;
    yield describe(error);
  }
}
