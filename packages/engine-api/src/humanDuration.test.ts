import { expect, test } from 'vitest';
import { humanDuration } from './humanDuration.ts';

test.each([
  [0, 'Less than a second'],
  [1, '1 second'],
  [59, '59 seconds'],
  [60, 'About a minute'],
  [119, 'About a minute'],
  [120, '2 minutes'],
  [3599, '59 minutes'],
  [3600, 'About an hour'],
  [2 * 3600, '2 hours'],
  [47 * 3600, '47 hours'],
  [48 * 3600, '2 days'],
  [13 * 24 * 3600, '13 days'],
  [14 * 24 * 3600, '2 weeks'],
  [60 * 24 * 3600, '2 months'],
  [800 * 24 * 3600, '2 years'],
])('%d seconds are "%s"', (seconds, text) => {
  expect(humanDuration(seconds * 1000)).toBe(text);
});
