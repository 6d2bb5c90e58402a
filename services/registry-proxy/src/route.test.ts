import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isDistributionError } from './distributionError.ts';
import { parseRoute } from './route.ts';

const own = new Set(['lab']);
const digest = `sha256:${'a'.repeat(64)}`;

describe('parseRoute', () => {
  const cases: [path: string, namespace: string | undefined, expected: unknown][] = [
    ['/v2', undefined, { kind: 'base' }],
    ['/v2/', undefined, { kind: 'base' }],
    ['/v2/_catalog', undefined, { kind: 'catalog' }],
    ['/v2/ghcr.io/a/b/tags/list', undefined, { kind: 'tags', repository: { registry: 'ghcr.io', name: 'a/b' } }],
    [
      '/v2/localhost:5000/app/manifests/1',
      undefined,
      { kind: 'manifest', repository: { registry: 'localhost:5000', name: 'app' }, reference: { tag: '1' } },
    ],
    [
      '/v2/localhost%3A5000/app/manifests/1',
      undefined,
      { kind: 'manifest', repository: { registry: 'localhost:5000', name: 'app' }, reference: { tag: '1' } },
    ],
    [
      `/v2/busybox/manifests/${digest}`,
      undefined,
      { kind: 'manifest', repository: { registry: 'docker.io', name: 'library/busybox' }, reference: { digest } },
    ],
    [
      `/v2/docker.io/busybox/blobs/${digest}`,
      undefined,
      { kind: 'blob', repository: { registry: 'docker.io', name: 'library/busybox' }, digest },
    ],
    [`/v2/a/b/blobs/${digest}`, 'quay.io', { kind: 'blob', repository: { registry: 'quay.io', name: 'a/b' }, digest }],
    [`/v2/lab/b/blobs/${digest}`, undefined, { kind: 'blob', repository: { registry: '', name: 'lab/b' }, digest }],
    [`/v2/lab/b/blobs/${digest}`, 'quay.io', { kind: 'blob', repository: { registry: 'quay.io', name: 'lab/b' }, digest }],
    ['/v2/a/blobs/uploads/', undefined, { kind: 'upload', repository: { registry: 'docker.io', name: 'library/a' }, id: undefined }],
    ['/v2/a/blobs/uploads/x.y', undefined, { kind: 'upload', repository: { registry: 'docker.io', name: 'library/a' }, id: 'x.y' }],
    [
      `/v2/ghcr.io/manifests/blobs/manifests/latest`,
      undefined,
      { kind: 'manifest', repository: { registry: 'ghcr.io', name: 'manifests/blobs' }, reference: { tag: 'latest' } },
    ],
    ['/v1/search', undefined, undefined],
    ['/v2/a/unknown/thing', undefined, undefined],
  ];
  it.each(cases)('%s (ns %s)', (path, namespace, expected) => {
    expect(parseRoute(path, namespace, own)).toEqual(expected);
  });

  const refused: [path: string, namespace: string | undefined, code: string][] = [
    ['/v2/../x/manifests/1', undefined, 'NAME_INVALID'],
    ['/v2/ghcr.io/%2e%2e/manifests/1', undefined, 'NAME_INVALID'],
    ['/v2/a/manifests/1', 'not-a-host', 'NAME_INVALID'],
    ['/v2/ghcr.io:0/a/manifests/1', undefined, 'NAME_INVALID'],
    ['/v2/%zz/manifests/1', undefined, 'NAME_INVALID'],
    ['/v2/a/manifests/-bad', undefined, 'MANIFEST_UNKNOWN'],
    ['/v2/a/blobs/sha256:abc', undefined, 'DIGEST_INVALID'],
    ['/v2/a/referrers/latest', undefined, 'DIGEST_INVALID'],
    ['/v2/a/blobs/uploads/a%2Fb', undefined, 'NAME_INVALID'],
  ];
  it.each(refused)('refuses %s (ns %s)', (path, namespace, code) => {
    let thrown: unknown;
    try {
      if (parseRoute(path, namespace, own) === undefined) return;
    } catch (error) {
      thrown = error;
    }
    expect(isDistributionError(thrown) && [thrown.code, thrown.status < 500]).toEqual([code, true]);
  });

  it('throws nothing but a 4xx, and lets no name climb out, whatever is asked', () => {
    const piece = fc.oneof(
      fc.constantFrom('..', '.', '', 'v2', 'manifests', 'blobs', 'uploads', 'tags', 'list', '%2e%2e', '%00', 'lab', 'ghcr.io', digest),
      fc.string({ maxLength: 12 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), fc.option(fc.string({ maxLength: 20 }), { nil: undefined }), (pieces, namespace) => {
        try {
          const route = parseRoute(`/v2/${pieces.join('/')}`, namespace, own);
          if (route !== undefined && 'repository' in route) expect(route.repository.name).toMatch(/^[a-z0-9][a-z0-9._/-]*$/);
          if (route !== undefined && 'repository' in route) expect(route.repository.name.split('/')).not.toContain('..');
        } catch (error) {
          expect(isDistributionError(error) && error.status >= 400 && error.status < 500).toBe(true);
        }
      }),
    );
  });
});
