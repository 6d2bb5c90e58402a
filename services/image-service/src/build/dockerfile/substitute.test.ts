// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is the language under test
import { describe, expect, it } from 'vitest';
import { expand, expandText, expandWords } from './substitute.ts';

const variables = new Map([
  ['x', 'value'],
  ['empty', ''],
  ['two', 'a b'],
  ['star', 'a*b'],
  ['path', '/usr/lib/a.tar.gz'],
]);

describe('words', () => {
  it.each([
    ['plain', 'plain'],
    ['$x', 'value'],
    ['a${x}b', 'avalueb'],
    ['\\$x', '$x'],
    ["'$x'", '$x'],
    ['"$x y"', 'value y'],
    ['"\\$x \\" \\a"', '$x " \\a'],
    ['a\\ b', 'a b'],
    ['$none', ''],
    ['$', '$'],
    ['${none-word}', 'word'],
    ['${empty-word}', ''],
    ['${empty:-word}', 'word'],
    ['${x:+yes}', 'yes'],
    ['${empty:+yes}', ''],
    ['${empty+yes}', 'yes'],
    ['${none:-${x}}', 'value'],
    ['${none:-"a}b"}', 'a}b'],
    ['${path#*/}', 'usr/lib/a.tar.gz'],
    ['${path##*/}', 'a.tar.gz'],
    ['${path%.*}', '/usr/lib/a.tar'],
    ['${path%%.*}', '/usr/lib/a'],
    ['${path/a/b}', '/usr/lib/b.tar.gz'],
    ['${path//a/b}', '/usr/lib/b.tbr.gz'],
    ['${path/t?r/zip}', '/usr/lib/a.zip.gz'],
    ['${x:?never}', 'value'],
    ['${star#a\\*}', 'b'],
    ['${star/\\*/-}', 'a-b'],
    ['${path/\\/usr/x}', 'x/lib/a.tar.gz'],
  ])('%j is %j', (word, expected) => {
    expect(expand(word, variables, '\\')).toBe(expected);
  });

  it.each([
    ['"open', 'matching double-quote'],
    ["'open", 'matching single-quote'],
    ['${x', "missing '}'"],
    ['${x:z}', 'unsupported modifier (:z)'],
    ['${none:?is needed}', 'none: is needed'],
    ['${}', 'bad substitution'],
  ])('%j is refused: %s', (word, message) => {
    expect(() => expand(word, variables, '\\')).toThrow(message);
  });

  it('are parted by blanks that come of a variable, but not within quotes', () => {
    expect(expandWords('$two "$two" c', variables, '\\')).toEqual(['a', 'b', 'a b', 'c']);
  });

  it('keep quotes in a text', () => {
    expect(expandText('say "$x" \\$x\n', variables, '\\')).toBe('say "value" $x\n');
  });

  it('end soon, however they nest and whatever the pattern', () => {
    expect(() => expand('${x:-'.repeat(1000), variables, '\\')).toThrow();
    const long = new Map([['x', 'a'.repeat(5000)]]);
    expect(expand(`\${x%${'*a'.repeat(200)}b}`, long, '\\')).toHaveLength(5000);
  });
});
