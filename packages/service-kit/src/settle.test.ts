import { execFileSync } from 'node:child_process';
import { setImmediate as turn } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { settleAfterStart } from './settle.ts';

afterEach(() => {
  vi.useRealTimers();
});

/** @returns how often the whole heap is collected while 4 million objects live for a while, in a heap as small and as bounded as a service's. */
function collectionsOf(code: string): number {
  const script = `
    import { PerformanceObserver } from 'node:perf_hooks';
    import { setImmediate as turn } from 'node:timers/promises';
    import { letHeapGrow } from ${JSON.stringify(import.meta.resolve('./settle.ts'))};
    const objects = (length) => Array.from({ length }, (_unused, index) => ({ index }));
    const held = objects(300_000);
    ${code};
    let count = 0;
    new PerformanceObserver((list) => { count += list.getEntries().filter(({ detail }) => detail.kind === 4).length; }).observe({ entryTypes: ['gc'] });
    let recent = [];
    for (let index = 0; index < 4_000; index += 1) {
      recent = recent.length > 40 ? [] : [...recent, objects(1_000)];
      if (index % 20 === 0) await turn();
    }
    await turn();
    console.log(held.length > 0 ? count : 0);`;
  const flags = ['--max-semi-space-size=1', '--max-old-space-size=512', '--input-type=module'];
  return Number(execFileSync(process.execPath, [...flags, '--eval', script], { encoding: 'utf8' }));
}

describe('memory after the start', () => {
  it('is collected whole, with what only weak references hold, and no flag of V8 stays set', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval'] });
    const warnings: unknown[] = [];
    let garbage: object[] | undefined = Array.from({ length: 200_000 }, (_unused, index) => ({ index }));
    const weak = new WeakRef(garbage);
    settleAfterStart({ warn: (fields: unknown) => warnings.push(fields) });
    garbage = undefined;
    // A reference that was made in this turn holds until its end.
    await turn();
    const before = getHeapStatistics().used_heap_size;
    vi.advanceTimersByTime(3_000);
    expect(weak.deref()).toBeUndefined();
    expect(getHeapStatistics().used_heap_size).toBeLessThan(before);
    expect(warnings).toEqual([]);
    expect(globalThis.gc).toBeUndefined();
  });
});

describe('a heap that may grow', () => {
  it('is not collected for every few megabytes that pass through', () => {
    const [bounded, grown] = [collectionsOf(''), collectionsOf('letHeapGrow()')];
    expect(grown, `${bounded} times without`).toBeLessThan(bounded / 2);
  });
});
