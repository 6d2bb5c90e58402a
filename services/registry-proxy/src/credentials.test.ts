import { describe, expect, it } from 'vitest';
import { anonymous, credentialsFromAuthorization, credentialsFromHeader, credentialsKey } from './credentials.ts';

const encode = (document: unknown): string => Buffer.from(JSON.stringify(document)).toString('base64url');
const secret = Buffer.alloc(32, 1);

describe('credentials', () => {
  const cases: [name: string, header: string | undefined, expected: unknown][] = [
    ['no header', undefined, anonymous],
    ['an empty one', '', anonymous],
    ['an empty document', encode({}), anonymous],
    ['null', encode(null), anonymous],
    ['a password', encode({ username: 'a', password: 'b:c' }), { kind: 'password', username: 'a', password: 'b:c' }],
    ['auth in one', encode({ auth: Buffer.from('a:b:c').toString('base64') }), { kind: 'password', username: 'a', password: 'b:c' }],
    ['an identity token', encode({ username: 'a', identitytoken: 't' }), { kind: 'identityToken', token: 't' }],
    ['a registry token', encode({ registrytoken: 't' }), { kind: 'registryToken', token: 't' }],
  ];
  it.each(cases)('%s', (_name, header, expected) => expect(credentialsFromHeader(header)).toEqual(expected));

  it.each(['{}', '!!!', encode([1]), encode({ username: 1 }), 'a'.repeat(20_000)])('nobody: %s', (header) => {
    expect(credentialsFromHeader(header)).toBe(anonymous);
  });

  it('reads Basic and nothing else', () => {
    expect(credentialsFromAuthorization(`Basic ${Buffer.from('a:b').toString('base64')}`)).toMatchObject({ username: 'a', password: 'b' });
    for (const header of [undefined, 'Bearer x', 'Basic', 'Basic ====', 'Basic Og=='])
      expect(credentialsFromAuthorization(header)).toBe(anonymous);
  });

  it('tells users apart by a key that shows nothing and needs the secret', () => {
    const jane = credentialsKey({ kind: 'password', username: 'jane', password: 'secret' }, secret);
    expect(jane).toMatch(/^[0-9a-f]{64}$/);
    expect(credentialsKey({ kind: 'password', username: 'jane', password: 'Secret' }, secret)).not.toBe(jane);
    // Neither does moving the border between name and password make two users one.
    expect(credentialsKey({ kind: 'password', username: 'janes', password: 'ecret' }, secret)).not.toBe(jane);
    expect(credentialsKey({ kind: 'password', username: 'jane', password: 'secret' }, Buffer.alloc(32, 2))).not.toBe(jane);
  });
});
