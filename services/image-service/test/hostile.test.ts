/** What strangers send: a failed pull or load with a clear message, nothing outside, nothing left behind. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import {
  assembleImage,
  buildImage,
  buildLayer,
  buildTar,
  dockerArchive,
  type LayerEntry,
  randomBytesOf,
  type StaticRegistry,
  sha256,
  startStaticRegistry,
} from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Stack } from './stack.ts';

let stack: Stack;
let registry: StaticRegistry;
let tag = 0;

beforeAll(async () => {
  registry = await startStaticRegistry();
  stack = await Stack.start();
});
afterEach(async () => {
  registry.misbehave([]);
  await stack.clear();
});
afterAll(async () => {
  await stack?.stop();
  await registry?.stop();
});

function nothingLeft(): void {
  expect(existsSync(join(stack.root, 'evil'))).toBe(false);
  expect(existsSync('/evil-flotilla')).toBe(false);
  const left = Object.fromEntries(
    ['layers', 'blobs/sha256', 'ingest', 'snapshots'].map((folder) => [folder, readdirSync(join(stack.dataRoot, folder))]),
  );
  expect(left).toEqual({ layers: [], 'blobs/sha256': [], ingest: [], snapshots: [] });
}

/** Pulls; the error is the call's own or the last line's. */
async function failedPull(name: string): Promise<string> {
  try {
    const lines = await stack.pull(name);
    return lines.at(-1)?.errorDetail?.message ?? `succeeded: ${JSON.stringify(lines.at(-1))}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const hostile: [name: string, entries: LayerEntry[], message: RegExp][] = [
  ['a name with ..', [{ path: '../../../../../../evil-flotilla', content: 'x' }], /invalid entry name .*outside of the root/],
  ['a name that climbs out in the middle', [{ path: 'a/../../evil', content: 'x' }], /outside of the root/],
  [
    'an absolute name below a file',
    [
      { path: '/a', content: 'x' },
      { path: '/a/evil-flotilla', content: 'x' },
    ],
    /not a directory/,
  ],
  ['a symlink that leads out', [{ path: 'a', target: '../../../evil' }], /invalid symlink "a" -> .*outside of the root/],
  ['a hard link that leads out', [{ path: 'a', type: 'link', target: '../../../etc/passwd' }], /invalid hardlink .*outside of the root/],
  ["a hard link to the host's file", [{ path: 'a', type: 'link', target: '/etc/passwd' }], /hardlink .*not in its layer|no target/],
  [
    'a file below a file',
    [
      { path: 'a', content: 'x' },
      { path: 'a/b', content: 'y' },
    ],
    /not a directory/,
  ],
  [
    'symlinks in a circle',
    [
      { path: 'a', target: 'b' },
      { path: 'b', target: 'a' },
      { path: 'a/x', content: 'y' },
    ],
    /too many symbolic links/,
  ],
  ['a whiteout of ..', [{ path: 'd/' }, { path: 'd/.wh...', content: '' }], /invalid whiteout/],
];

describe('hostile layers', () => {
  it.each(hostile)('%s: pull fails', async (_name, entries, message) => {
    const image = await buildImage({ layers: [[{ path: 'good', content: 'good' }], entries] });
    registry.add('evil', `t${++tag}`, image);
    expect(await failedPull(`${registry.address}/evil:t${tag}`)).toMatch(message);
    expect(await stack.list({}, true)).toEqual([]);
    nothingLeft();
  });

  it.each(hostile)('%s: load fails', async (_name, entries, message) => {
    const image = await buildImage({ layers: [entries] });
    const lines = await stack.load(await dockerArchive([{ image, tags: ['evil:latest'] }]));
    expect(lines.at(-1)?.errorDetail?.message).toMatch(message);
    expect(await stack.list({}, true)).toEqual([]);
    nothingLeft();
  });

  it('through an absolute symlink writes inside only', async () => {
    const image = await buildImage({
      layers: [
        [
          { path: 'out', target: '/' },
          { path: 'out/evil-flotilla', content: 'inside' },
        ],
      ],
    });
    registry.add('evil', 'abs', image);
    await stack.pull(`${registry.address}/evil:abs`);
    expect(existsSync('/evil-flotilla')).toBe(false);
    const { UpperDir } = (await stack.inspect<{ GraphDriver: { Data: { UpperDir: string } } }>(image.id)).GraphDriver.Data;
    expect(existsSync(join(UpperDir, 'evil-flotilla'))).toBe(true);
  });

  it('with absolute names writes below its own root', async () => {
    const image = await buildImage({
      layers: [
        [
          { path: '/evil-flotilla', content: 'inside' },
          { path: '/../../../evil-flotilla-2', content: 'inside' },
        ],
      ],
    });
    registry.add('evil', 'names', image);
    await stack.pull(`${registry.address}/evil:names`);
    expect(existsSync('/evil-flotilla')).toBe(false);
    expect(existsSync('/evil-flotilla-2')).toBe(false);
    const { UpperDir } = (await stack.inspect<{ GraphDriver: { Data: { UpperDir: string } } }>(image.id)).GraphDriver.Data;
    expect(readdirSync(UpperDir).sort()).toEqual(['evil-flotilla', 'evil-flotilla-2']);
  });

  it('with the same name twice keeps the last', async () => {
    const image = await buildImage({
      layers: [
        [
          { path: 'a', target: '/etc/passwd' },
          { path: 'a', content: 'last' },
          { path: 'd/' },
          { path: 'd/x', content: '1' },
          { path: 'd', content: 'file' },
        ],
      ],
    });
    registry.add('twice', 'latest', image);
    await stack.pull(`${registry.address}/twice`);
    expect((await stack.inspect(image.id)).Id).toBe(image.id);
  });

  it('that unpack to more than there is room for', async () => {
    await stack.crash('image-service');
    await stack.startService('image-service', { FLOTILLA_MAX_LAYER_BYTES: '1000000' });
    const image = await buildImage({ layers: [[{ path: 'bomb', content: Buffer.alloc(40_000_000) }]] });
    registry.add('bomb', 'latest', image);
    expect(await failedPull(`${registry.address}/bomb`)).toMatch(/larger than 1000000 bytes|more than the 1000000 bytes/);
    nothingLeft();
    await stack.crash('image-service');
    await stack.startService('image-service');
  });
});

describe('content that lies', () => {
  it('a blob of another digest', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: randomBytesOf(5000) }]] });
    const digest = image.layers[0]?.digest ?? '';
    registry.add('lie', 'blob', image, (each, bytes) =>
      each === digest ? gzipSync(Buffer.alloc(bytes.length)).subarray(0, bytes.length) : bytes,
    );
    expect(await failedPull(`${registry.address}/lie:blob`)).toMatch(/verification failed|does not match|unexpected|digest/i);
    nothingLeft();
  });

  it('a config of another digest', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'a' }]] });
    registry.add('lie', 'config', image, (each, bytes) =>
      each === image.id ? Buffer.from(bytes.toString().replace('linux', 'minix')) : bytes,
    );
    expect(await failedPull(`${registry.address}/lie:config`)).toMatch(/verification failed|does not match|digest/i);
    nothingLeft();
  });

  it('a layer whose diffID is another', async () => {
    const layer = await buildLayer([{ path: 'a', content: 'a' }]);
    const image = assembleImage([{ ...layer, diffId: sha256('something else') }]);
    registry.add('lie-diff', 'diff', image);
    expect(await failedPull(`${registry.address}/lie-diff:diff`)).toBe("layers from manifest don't match image configuration");
    nothingLeft();
    const lines = await stack.load(await dockerArchive([{ image, tags: ['lie:diff'] }]));
    expect(lines.at(-1)?.error).toBe("layers from manifest don't match image configuration");
    nothingLeft();
  });

  it('a manifest that is none', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'a' }]] });
    const bytes = Buffer.from('{"schemaVersion":2,"layers":[],"manifests":[]}');
    const manifest = {
      ...image,
      manifest: bytes,
      manifestDescriptor: { ...image.manifestDescriptor, digest: sha256(bytes), size: bytes.length },
    };
    registry.add('lie-manifest', 'manifest', { ...manifest, blobs: new Map([...image.blobs, [sha256(bytes), bytes]]) });
    expect(await failedPull(`${registry.address}/lie-manifest:manifest`)).toMatch(/manifest/);
    nothingLeft();
  });

  it('a layer that is cut or no tar', async () => {
    for (const bytes of [
      gzipSync(randomBytesOf(5000)),
      gzipSync((await buildTar([{ path: 'a', content: randomBytesOf(5000) }])).subarray(0, 3000)),
    ]) {
      const layer = { diffId: sha256('x'), digest: sha256(bytes), compression: 'gzip' as const, bytes };
      registry.add('cut', `t${++tag}`, assembleImage([layer]));
      expect(await failedPull(`${registry.address}/cut:t${tag}`)).toMatch(/invalid tar header|unexpected EOF|don't match/);
      nothingLeft();
    }
  });
});

describe('hostile archives', () => {
  const cases: [name: string, archive: () => Promise<Buffer>, message: RegExp][] = [
    ['no tar', async () => randomBytesOf(5000), /invalid archive: invalid tar header/],
    ['nothing', async () => Buffer.alloc(0), /neither manifest.json nor index.json/],
    ['broken gzip', async () => Buffer.concat([gzipSync(Buffer.alloc(5000)).subarray(0, 20), randomBytesOf(400)]), /invalid archive/],
    ['no manifest', () => buildTar([{ path: 'x', content: 'x' }]), /neither manifest.json nor index.json/],
    ['a name with ..', () => buildTar([{ path: '../x', content: 'x' }]), /leads outside/],
    ['a manifest that is no JSON', () => buildTar([{ path: 'manifest.json', content: '{' }]), /manifest.json is not JSON/],
    ['a manifest of wrong types', () => buildTar([{ path: 'manifest.json', content: '[{"Config":1}]' }]), /no Config/],
    [
      'a config that is missing',
      () => buildTar([{ path: 'manifest.json', content: '[{"Config":"../../etc/passwd","Layers":[]}]' }]),
      /leads outside/,
    ],
    [
      'an index that points at nothing',
      () =>
        buildTar([
          {
            path: 'index.json',
            content: JSON.stringify({
              schemaVersion: 2,
              manifests: [{ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: sha256('x'), size: 1 }],
            }),
          },
        ]),
      /is missing/,
    ],
  ];
  it.each(cases)('%s', async (_name, archive, message) => {
    const lines = await stack.load(await archive());
    expect(lines.at(-1)?.errorDetail?.message).toMatch(message);
    nothingLeft();
  });

  it('a bad tag', async () => {
    const image = await buildImage({ layers: [[{ path: 'a', content: 'a' }]] });
    const lines = await stack.load(await dockerArchive([{ image, tags: ['Bad/../Tag'] }]));
    expect(lines.at(-1)?.errorDetail?.message).toMatch(/invalid tag/);
    nothingLeft();
  });
});
