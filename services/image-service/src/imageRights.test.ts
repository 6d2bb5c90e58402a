import { parseReference } from '@flotilla/oci';
import { runWithRequest } from '@flotilla/service-kit';
import { Policy } from '@flotilla/service-kit/rights';
import { describe, expect, it } from 'vitest';
import { readImage } from './image.ts';
import { ImageRights } from './imageRights.ts';

const digest = `sha256:${'a'.repeat(64)}`;
const image = readImage({
  id: `sha256:${'b'.repeat(64)}`,
  config: '{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"history":[],"config":{"Labels":{"team":"a"}}}',
  sizeBytes: 0,
});

/** Does something as one whose images have these limits. */
function within<T>(limits: { prefixes?: string[]; labels?: string[] }, work: (rights: ImageRights) => T): T {
  const current = Policy.parse(JSON.stringify({ default: 'held', roles: { held: { images: limits } } }));
  return runWithRequest({ requestId: 'r', identity: { kind: 'user', name: 'u', uid: 1000 } }, () => work(new ImageRights({ current })));
}

const allowed = (prefix: string, name: string): boolean =>
  within({ prefixes: [prefix] }, (rights) => {
    try {
      rights.requireName(parseReference(name), image);
      return true;
    } catch {
      return false;
    }
  });

describe('a prefix that reaches into the tag', () => {
  it('allows the digests that pulls and pushes of its tags give, and no others', () => {
    expect(allowed('team/app:', 'team/app:1')).toBe(true);
    expect(allowed('team/app:', `team/app@${digest}`)).toBe(true);
    expect(allowed('team/app:v', `team/app@${digest}`)).toBe(true);
    expect(allowed('team/app:v', 'team/app:1')).toBe(false);
    expect(allowed('team/app:', `team/apple@${digest}`)).toBe(false);
    expect(allowed('team/app:', 'team/app2:1')).toBe(false);
    expect(allowed('localhost:5000/app:', `localhost:5000/app@${digest}`)).toBe(true);
  });

  it('shows an image by its digest alone only to who has all tags of the repository', () => {
    const sees = (prefix: string, name: string): boolean =>
      within({ prefixes: [prefix] }, (rights) => rights.sees(image, () => [parseReference(name)]));
    expect(sees('team/app:', `team/app@${digest}`)).toBe(true);
    expect(sees('team/app:v', `team/app@${digest}`)).toBe(false);
    expect(sees('team/app:v', 'team/app:v1')).toBe(true);
  });
});

it('names are shown by prefix, and all where a label is within', () => {
  const shown = (limits: { prefixes?: string[]; labels?: string[] }): string[] =>
    within(limits, (rights) => ['a-app:1', 'b-app:1'].filter((name) => rights.allows(parseReference(name), image)));
  expect(shown({ prefixes: ['a-'] })).toEqual(['a-app:1']);
  expect(shown({ prefixes: ['c-'], labels: ['team=a'] })).toEqual(['a-app:1', 'b-app:1']);
});
