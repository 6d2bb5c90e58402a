import { expect, it } from 'vitest';
import { randomId, shortId } from './objectId.ts';

it('an id is no number in its short form', () => {
  const drawn = ['689683113895'.padEnd(64, 'a'), '68968311389f'.padEnd(64, '0')];
  const id = randomId(() => Buffer.from(drawn.shift() ?? '', 'hex'));
  expect(shortId(id)).toBe('68968311389f');
  expect(randomId()).toMatch(/^[0-9a-f]{64}$/);
});
