import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chainIds } from './chainId.ts';
import { DigestVerifier, digestOf, parseDigest, shortDigest } from './digest.ts';
import { parseImageConfig } from './imageConfig.ts';
import { chooseManifest, parseIndex } from './imageIndex.ts';
import { parseManifest } from './manifest.ts';
import { mediaTypes, sniffCompression } from './mediaTypes.ts';
import { formatPlatform, parsePlatform, platformMatches, platformRank } from './platform.ts';

const digest = digestOf('x');
const bytes = (document: unknown): Uint8Array => Buffer.from(typeof document === 'string' ? document : JSON.stringify(document));
const descriptor = { mediaType: mediaTypes.ociLayerGzip, digest, size: 3 };
const manifest = {
  schemaVersion: 2,
  mediaType: mediaTypes.ociManifest,
  config: { ...descriptor, mediaType: mediaTypes.ociConfig },
  layers: [descriptor],
};

describe('digest', () => {
  it('accepts what it computes and shortens it', () => {
    expect(parseDigest(digest)).toBe(digest);
    expect(shortDigest(digest)).toBe(digest.slice(7, 19));
  });
  it.each([
    ['', 'invalid checksum digest format'],
    ['sha256', 'invalid checksum digest format'],
    ['md5:aaaa', 'unsupported digest algorithm'],
    ['sha256:aa', 'invalid checksum digest length'],
    [`sha256:${'A'.repeat(64)}`, 'invalid checksum digest format'],
    [`sha256:../${'a'.repeat(61)}`, 'invalid checksum digest format'],
  ])('refuses %s', (text, message) => expect(() => parseDigest(text)).toThrow(message));
  it('verifies in any pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 })), (chunks) => {
        const whole = Buffer.concat(chunks);
        const verifier = new DigestVerifier(`sha512:${createHash('sha512').update(whole).digest('hex')}`);
        for (const chunk of chunks) verifier.update(chunk);
        expect(verifier.verified()).toBe(true);
        expect(verifier.sizeBytes).toBe(whole.length);
      }),
    );
    const lie = new DigestVerifier(digest);
    lie.update(Buffer.from('y'));
    expect(lie.verified()).toBe(false);
  });
  it('chains', () => {
    expect(chainIds([digest, digest])).toEqual([digest, digestOf(`${digest} ${digest}`)]);
  });
});

describe('manifest and index', () => {
  it('reads a manifest', () => {
    expect(parseManifest(bytes(manifest), '').layers).toEqual([descriptor]);
  });
  it.each([undefined, 0])('reads a manifest whose schemaVersion is %s', (schemaVersion) => {
    expect(parseManifest(bytes({ ...manifest, schemaVersion }), '').layers).toEqual([descriptor]);
  });
  it.each([
    ['not JSON', '{'],
    ['an array', []],
    ['schema 1', { ...manifest, schemaVersion: 1 }],
    ['both kinds at once', { ...manifest, manifests: [] }],
    ['no layers', { ...manifest, layers: undefined }],
    ['too many layers', { ...manifest, layers: Array(501).fill(descriptor) }],
    ['a negative size', { ...manifest, layers: [{ ...descriptor, size: -1 }] }],
    ['a size that is no number', { ...manifest, layers: [{ ...descriptor, size: '3' }] }],
    ['a digest with a path', { ...manifest, layers: [{ ...descriptor, digest: 'sha256:../../etc' }] }],
    ['another media type', { ...manifest, mediaType: 'text/html' }],
    ['too large', ' '.repeat(5 * 1024 * 1024)],
  ])('refuses a manifest: %s', (_name, document) => {
    expect(() => parseManifest(bytes(document), mediaTypes.ociManifest)).toThrow(expect.objectContaining({ name: 'InvalidContent' }));
  });
  it('survives any JSON', () => {
    fc.assert(
      fc.property(fc.json(), fc.anything(), (text, part) => {
        for (const parse of [
          () => parseManifest(bytes(text), ''),
          () => parseIndex(bytes(text), ''),
          () => parseImageConfig(bytes(text)),
          () =>
            parseManifest(bytes(JSON.stringify({ ...manifest, layers: part }, (_k, v: unknown) => (typeof v === 'bigint' ? 0 : v))), ''),
        ]) {
          try {
            parse();
          } catch (error) {
            expect(error).toMatchObject({ name: 'InvalidContent' });
          }
        }
      }),
    );
  });
  it('chooses by platform and passes attestations over', () => {
    const entry = (platform: object, extra: object = {}): object => ({
      ...descriptor,
      mediaType: mediaTypes.ociManifest,
      platform,
      ...extra,
    });
    const index = parseIndex(
      bytes({
        schemaVersion: 2,
        manifests: [
          entry({ os: 'linux', architecture: 'arm', variant: 'v6' }),
          entry({ os: 'linux', architecture: 'arm', variant: 'v7' }),
          entry({ os: 'linux', architecture: 'amd64' }, { annotations: { 'vnd.docker.reference.type': 'attestation-manifest' } }),
          entry({ os: 'linux', architecture: 'amd64' }),
        ],
      }),
      mediaTypes.ociIndex,
    );
    expect(chooseManifest(index, parsePlatform('linux/amd64'))).toBe(index.manifests[3]);
    expect(chooseManifest(index, parsePlatform('linux/arm/v7'))).toBe(index.manifests[1]);
    expect(chooseManifest(index, parsePlatform('linux/arm64'))).toBe(index.manifests[1]);
    expect(chooseManifest(index, parsePlatform('linux/s390x'))).toBeUndefined();
  });
});

describe('image config', () => {
  it('keeps what docker knows and drops nulls', () => {
    const config = parseImageConfig(
      bytes({
        architecture: 'amd64',
        os: 'linux',
        config: {
          Env: ['A=1'],
          Cmd: null,
          Entrypoint: ['/x'],
          ExposedPorts: { '80/tcp': {} },
          Healthcheck: { Test: ['CMD', 'x'], Interval: 5e9 },
          Shell: ['/bin/ash'],
          OnBuild: [],
          Labels: { a: 'b' },
        },
        rootfs: { type: 'layers', diff_ids: [digest] },
        history: [{ created_by: 'x', empty_layer: true }],
      }),
    );
    expect(config.config).toEqual({
      Env: ['A=1'],
      Entrypoint: ['/x'],
      ExposedPorts: { '80/tcp': {} },
      Healthcheck: { Test: ['CMD', 'x'], Interval: 5e9 },
      Shell: ['/bin/ash'],
      OnBuild: [],
      Labels: { a: 'b' },
    });
    expect(config.rootfs.diff_ids).toEqual([digest]);
    expect(config.history).toEqual([{ created_by: 'x', empty_layer: true }]);
  });
  it('refuses wrong kinds', () => {
    expect(() => parseImageConfig(bytes({ config: { Env: 'A=1' } }))).toThrow('image config.config.Env is not an array');
    expect(() => parseImageConfig(bytes({ rootfs: { diff_ids: ['sha256:no'] } }))).toThrow('diff_ids[0]');
  });
});

describe('platform', () => {
  it.each([
    ['linux/x86_64', 'linux/amd64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['armhf', 'linux/arm/v7'],
    ['Linux/AMD64', 'linux/amd64'],
  ])('%s is %s', (text, normal) => expect(formatPlatform(parsePlatform(text))).toBe(normal));
  it('refuses nonsense', () => {
    expect(() => parsePlatform('linux/a b')).toThrow(
      '"a b" is an invalid component of "linux/a b": platform specifier component must match',
    );
    expect(() => parsePlatform('nonsense')).toThrow('"nonsense": unknown operating system or architecture: invalid argument');
    expect(() => parsePlatform('a/b/c/d')).toThrow('"a/b/c/d": cannot parse platform specifier: invalid argument');
  });
  it('runs older variants after its own', () => {
    const amd = parsePlatform('linux/amd64');
    expect(platformRank(amd, amd)).toBe(0);
    expect(platformMatches(amd, parsePlatform('linux/386'))).toBe(true);
    expect(platformMatches(amd, parsePlatform('linux/arm64'))).toBe(false);
    expect(platformMatches(parsePlatform('linux/arm/v6'), parsePlatform('linux/arm/v7'))).toBe(false);
  });
});

describe('sniffCompression', () => {
  it.each([
    ['gzip', [0x1f, 0x8b, 8, 0]],
    ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
    ['bzip2', [0x42, 0x5a, 0x68, 0x39]],
    ['xz', [0xfd, 0x37, 0x7a, 0x58]],
    ['none', [0, 0, 0, 0]],
    ['none', []],
  ])('%s', (kind, head) => expect(sniffCompression(Uint8Array.from(head))).toBe(kind));
});
