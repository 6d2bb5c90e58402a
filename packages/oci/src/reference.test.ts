import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  familiarMatch,
  familiarName,
  familiarString,
  parseAnyReference,
  parseReference,
  referenceString,
  withDefaultTag,
  withDigest,
  withTag,
} from './reference.ts';

const hex = 'a'.repeat(64);

describe('parseReference', () => {
  const cases: [written: string, normal: string, familiar: string][] = [
    ['busybox', 'docker.io/library/busybox', 'busybox'],
    ['busybox:1.36', 'docker.io/library/busybox:1.36', 'busybox:1.36'],
    ['docker.io/busybox', 'docker.io/library/busybox', 'busybox'],
    ['index.docker.io/busybox', 'docker.io/library/busybox', 'busybox'],
    ['library/busybox', 'docker.io/library/busybox', 'busybox'],
    ['library/a/b', 'docker.io/library/a/b', 'library/a/b'],
    ['user/app', 'docker.io/user/app', 'user/app'],
    ['localhost/app', 'localhost/app', 'localhost/app'],
    ['localhost:5000/app:x', 'localhost:5000/app:x', 'localhost:5000/app:x'],
    ['[::1]:5000/app', '[::1]:5000/app', '[::1]:5000/app'],
    ['ghcr.io/a/b__c/d--e', 'ghcr.io/a/b__c/d--e', 'ghcr.io/a/b__c/d--e'],
    ['UPPER/app', 'UPPER/app', 'UPPER/app'],
    [`app:t@sha256:${hex}`, `docker.io/library/app:t@sha256:${hex}`, `app:t@sha256:${hex}`],
  ];
  it.each(cases)('%s', (written, normal, familiar) => {
    const reference = parseReference(written);
    expect(referenceString(reference)).toBe(normal);
    expect(familiarString(reference)).toBe(familiar);
  });

  const refused: [written: string, message: string][] = [
    ['', 'invalid reference format'],
    ['Busybox', 'invalid reference format: repository name (library/Busybox) must be lowercase'],
    ['docker.io/Foo/bar', 'invalid reference format: repository name (Foo/bar) must be lowercase'],
    [hex, `invalid repository name (${hex}), cannot specify 64-byte hexadecimal strings`],
    ['a:', 'invalid reference format'],
    ['a b', 'invalid reference format'],
    ['../etc', 'invalid reference format'],
    ['a/../b', 'invalid reference format'],
    ['-a', 'invalid reference format'],
    ['a___b', 'invalid reference format'],
    ['a@sha256:abc', 'invalid reference format'],
    [`a@sha256:${'a'.repeat(63)}`, 'invalid reference format'],
    [`a:${'t'.repeat(129)}`, 'invalid reference format'],
    [`x/${'a'.repeat(256)}`, 'invalid reference format: repository name must not be more than 255 characters'],
    ['a'.repeat(5000), 'invalid reference format'],
  ];
  it.each(refused)('refuses %s', (written, message) => {
    expect(() => parseReference(written)).toThrow(message);
  });

  it('gives back what it printed, for any reference', () => {
    // No dots: docker.io/0.a/b is familiar as 0.a/b, which reads as another host; so it is in docker too.
    const part = fc.stringMatching(/^[a-z0-9]{1,8}([_-][a-z0-9]{1,4})?$/).filter((text) => text !== 'localhost');
    const tag = fc.option(fc.stringMatching(/^\w[\w.-]{0,20}$/), { nil: undefined });
    fc.assert(
      fc.property(
        fc.constantFrom('', 'localhost:5000/', 'ghcr.io/', 'docker.io/'),
        fc.array(part, { minLength: 1, maxLength: 3 }),
        tag,
        (host, parts, label) => {
          const reference = parseReference(`${host}${parts.join('/')}${label === undefined ? '' : `:${label}`}`);
          expect(parseReference(familiarString(reference))).toEqual(reference);
          expect(parseReference(referenceString(reference))).toEqual(reference);
        },
      ),
    );
  });

  it('never throws anything but its own error', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 80 }), (text) => {
        try {
          parseReference(text);
        } catch (error) {
          expect(error).toMatchObject({ name: 'InvalidName', kind: 'InvalidParameter' });
        }
      }),
    );
  });
});

describe('parts of a reference', () => {
  it('adds latest only when nothing else is said', () => {
    expect(withDefaultTag(parseReference('a')).tag).toBe('latest');
    expect(withDefaultTag(parseReference(`a@sha256:${hex}`)).tag).toBeUndefined();
  });
  it('replaces tags and digests', () => {
    expect(familiarString(withTag(parseReference('a:1'), '2'))).toBe('a:2');
    expect(() => withTag(parseReference('a'), '../x')).toThrow('invalid tag format');
    expect(familiarString(withDigest(parseReference('a:1'), `sha256:${hex}`))).toBe(`a@sha256:${hex}`);
  });
  it('tells ids from names', () => {
    expect(parseAnyReference(hex)).toEqual({ id: `sha256:${hex}` });
    expect(parseAnyReference(`sha256:${hex}`)).toEqual({ id: `sha256:${hex}` });
    expect(parseAnyReference('abc')).toEqual({ reference: { domain: 'docker.io', path: 'library/abc' } });
  });
});

describe('familiarMatch', () => {
  const cases: [pattern: string, reference: string, matches: boolean][] = [
    ['busybox', 'busybox:1', true],
    ['busy*', 'busybox:1', true],
    ['busybox:*', 'busybox:1', true],
    ['*', 'user/app:1', false],
    ['*/*', 'user/app:1', true],
    ['busybo[a-x]', 'busybox:1', true],
    ['busybo[^x]', 'busybox:1', false],
    ['b.sybox', 'busybox:1', false],
    ['localhost:5000/a', 'localhost:5000/a:x', true],
  ];
  it.each(cases)('%s against %s', (pattern, reference, matches) => {
    expect(familiarMatch(pattern, parseReference(reference))).toBe(matches);
  });
  it('refuses a broken pattern', () => {
    expect(() => familiarMatch('a[', parseReference('a'))).toThrow('syntax error in pattern');
  });
  it('shows the name', () => expect(familiarName(parseReference('docker.io/library/a:1'))).toBe('a'));
});
