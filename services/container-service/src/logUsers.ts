/** Who still reads the files of a container: they are deleted only when the last reader has gone, also after `--rm`. */

export class LogUsers {
  private readonly users = new Map<string, { count: number; idle: Promise<void>; done: () => void }>();

  /** Answers a function that ends the use; calling it twice changes nothing. */
  use(id: string): () => void {
    let entry = this.users.get(id);
    if (entry === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      entry = { count: 0, idle: promise, done: resolve };
      this.users.set(id, entry);
    }
    const mine = entry;
    mine.count++;
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      mine.count--;
      if (mine.count > 0) return;
      this.users.delete(id);
      mine.done();
    };
  }

  whenIdle(id: string): Promise<void> {
    return this.users.get(id)?.idle ?? Promise.resolve();
  }
}
