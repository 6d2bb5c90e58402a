/** Waiting for a condition with a deadline, in place of sleeping for a guess. */

export interface WaitOptions {
  /** How long to wait in all. Default 10,000. */
  readonly timeoutMs?: number;
  /** Pause between two looks. Default 20. */
  readonly intervalMs?: number;
  /** What is waited for, for the error's text. */
  readonly what?: string;
}

/**
 * Looks again and again until the condition gives something truthy, and returns that.
 *
 * A condition that throws counts as "not yet"; its last error becomes the cause of the error at the deadline.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | null | false>> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const deadline = Date.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value as Exclude<T, undefined | null | false>;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    if (Date.now() > deadline) {
      const reason = lastError instanceof Error ? `: ${lastError.message}` : '';
      throw new Error(`still waiting after ${timeoutMs} ms for ${options.what ?? 'a condition'}${reason}`, { cause: lastError });
    }
    await new Promise((resolve) => setTimeout(resolve, options.intervalMs ?? 20));
  }
}
