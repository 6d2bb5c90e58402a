import { expect, it } from 'vitest';
import { Silence } from './silence.ts';

it('counts from the last answer', () => {
  const silence = new Silence(1_000, 5_000);
  expect(silence.look(3_000, false)).toBe(2_000);
  expect(silence.look(7_000, false)).toBe(6_000);
  expect(silence.look(8_000, true)).toBe(0);
  expect(silence.look(11_000, false)).toBe(3_000);
});

it('what passes while nobody could ask is no silence', () => {
  const silence = new Silence(0, 5_000);
  silence.look(1_000, true);
  // Frozen for an hour in the middle of a question.
  expect(silence.look(3_600_000, false)).toBe(5_000);
  expect(silence.look(3_605_000, false)).toBe(10_000);
  expect(silence.look(3_605_100, true)).toBe(0);
});
