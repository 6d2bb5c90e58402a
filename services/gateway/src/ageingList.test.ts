import { expect, it } from 'vitest';
import { AgeingList } from './ageingList.ts';

const json = '[{"Status":"Up 5 seconds (healthy)"},{"Status":"Created","Names":["/ä"]},{"Status":"Exited (1) 2 minutes ago"}]';

function listed(text: string, now: () => number): AgeingList {
  const bytes = Buffer.from(text);
  const age = (words: string, sinceMs: number) => ({ offset: bytes.indexOf(words), length: words.length, sinceMs });
  return new AgeingList(bytes, [age('5 seconds', 995_000), age('2 minutes', 880_000)], (document) => document, now);
}

it('shows each age as it is when the list is asked for', () => {
  let now = 1_000_000;
  const list = listed(json, () => now);
  expect(String(list.bytes())).toBe(json);
  now += 1_500;
  expect(String(list.bytes())).toBe(json.replace('5 seconds', '6 seconds'));
  now += 58_500;
  expect(String(list.bytes())).toBe(json.replace('5 seconds', 'About a minute').replace('2 minutes', '3 minutes'));
  // The clock was set back.
  now = 997_000;
  expect(String(list.bytes())).toBe(json.replace('5 seconds', '2 seconds').replace('2 minutes', 'About a minute'));
});

it('gives the same bytes as long as no age has other words', () => {
  let now = 1_000_000;
  const list = listed(json, () => now);
  const before = list.bytes();
  now += 900;
  expect(list.bytes()).toBe(before);
  now += 200;
  expect(list.bytes()).not.toBe(before);
});
