import { expect, test } from 'vitest';
import { formatNano, never, nowNano, parseNano, unixSeconds } from './clock.ts';

test.each([
  ['2026-11-24T11:05:58.365308173Z', 1795518358365308173n],
  ['2026-11-24T11:05:58Z', 1795518358000000000n],
  ['2026-11-24T11:05:58.5Z', 1795518358500000000n],
])('%s is %d ns, and back', (text, nano) => {
  expect(parseNano(text)).toBe(nano);
  expect(formatNano(nano)).toBe(text);
});

test('zones are understood, and "never" and nonsense are 0', () => {
  expect(parseNano('2026-11-24T13:05:58+02:00')).toBe(parseNano('2026-11-24T11:05:58Z'));
  expect(parseNano(never)).toBe(0n);
  expect(parseNano('soon')).toBe(0n);
  expect(unixSeconds('2026-11-24T11:05:58.9Z')).toBe(1795518358);
});

test('times never repeat and never go back', () => {
  const times = Array.from({ length: 1000 }, nowNano);
  for (let index = 1; index < times.length; index++) expect(times[index]).toBeGreaterThan(times[index - 1] ?? 0n);
});
