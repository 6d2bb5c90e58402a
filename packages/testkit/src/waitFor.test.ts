import { describe, expect, it } from 'vitest';
import { waitFor } from './waitFor.ts';

describe('waitFor', () => {
  it('gives the first truthy value', async () => {
    let looks = 0;
    expect(await waitFor(() => (++looks > 2 ? looks : undefined), { intervalMs: 1 })).toBe(3);
  });

  it('takes a throwing condition for "not yet", and tells its error at the deadline', async () => {
    const failing = waitFor(
      () => {
        throw new Error('no door');
      },
      { timeoutMs: 30, intervalMs: 5, what: 'the door' },
    );
    await expect(failing).rejects.toThrow(/still waiting after 30 ms for the door: no door/);
  });
});
