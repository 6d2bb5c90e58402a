import { expect, it } from 'vitest';
import { parseEvent } from './followers.ts';

it.each([
  ['12000000/<no value>/container/archive-path/a', 'archive-path', 'a', false],
  ['12000000/e/container/exec_start: sh -c ls /bin/a', 'exec_start', 'a', false],
  ['12000000/<no value>/container/die/a', 'die', 'a', true],
  ['12000000/<no value>/image/pull/127.0.0.1:5000/name:tag', 'pull', '127.0.0.1:5000/name:tag', false],
])('reads %s', (line, action, id, isStep) => {
  expect(parseEvent(line)).toMatchObject({ timeMs: 12, action, id, isStep });
});
