import { expect, it } from 'vitest';
import { openDoors, withoutCredentials } from './info.ts';

it.each([
  ['http://proxy:3128', 'http://proxy:3128'],
  ['http://user:word@proxy:3128/a@b', 'http://xxxxx:xxxxx@proxy:3128/a@b'],
  ['http://user@proxy', 'http://xxxxx:xxxxx@proxy'],
  ['http://user:p@ss@proxy', 'http://xxxxx:xxxxx@proxy'],
  ['', ''],
])('the proxy %s is shown as %s', (proxy, shown) => expect(withoutCredentials(proxy)).toBe(shown));

it.each([
  ['no tls', undefined, ['WARNING: API is accessible on http://0.0.0.0:2375 without encryption.']],
  ['tls for everybody', { verify: false }, ['WARNING: API is accessible on https://0.0.0.0:2375 without TLS client verification.']],
  ['tls for those who are known', { verify: true }, []],
])('of a socket on the network with %s, info says what is to be said', (_name, tls, said) => {
  const warnings = openDoors({ hosts: ['unix:///run/docker.sock', 'tcp://0.0.0.0:2375'], tls });
  expect(warnings.map((warning) => warning.split('\n')[0])).toEqual(said);
});
