import { describe, expect, test } from 'vitest';
import { makeName, nameConflict, parseName } from './names.ts';

describe('a name', () => {
  test.each([
    ['web', 'web'],
    ['/web', 'web'],
    ['a_b.c-d9', 'a_b.c-d9'],
  ])('%s is %s', (given, name) => {
    expect(parseName(given)).toBe(name);
  });

  test.each(['', 'a', '-x', 'a b', 'ä', '../x', 'a/b', '//ab', '.ab', 'ab\n'])('%j is refused in dockerd’s words', (given) => {
    expect(() => parseName(given)).toThrow(`Invalid container name (${given}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  });

  test('that is made up is allowed, and later ones have a digit', () => {
    expect(parseName(makeName(0))).toMatch(/^[a-z]+_[a-z]+$/);
    expect(makeName(7)).toMatch(/^[a-z]+_[a-z]+\d+$/);
  });

  test('that is taken is told as dockerd tells it', () => {
    expect(nameConflict('web', 'abc')).toBe(
      'Conflict. The container name "/web" is already in use by container "abc". You have to remove (or rename) that container to be able to reuse that name.',
    );
  });
});
