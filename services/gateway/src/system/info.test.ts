import { expect, it } from 'vitest';
import { withoutCredentials } from './info.ts';

it.each([
  ['http://proxy:3128', 'http://proxy:3128'],
  ['http://user:word@proxy:3128/a@b', 'http://xxxxx:xxxxx@proxy:3128/a@b'],
  ['http://user@proxy', 'http://xxxxx:xxxxx@proxy'],
  ['http://user:p@ss@proxy', 'http://xxxxx:xxxxx@proxy'],
  ['', ''],
])('the proxy %s is shown as %s', (proxy, shown) => expect(withoutCredentials(proxy)).toBe(shown));
