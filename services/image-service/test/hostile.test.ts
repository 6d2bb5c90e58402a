// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Dockerfiles write variables so
/** What strangers send: a failed pull or load with a clear message, nothing outside, nothing left behind. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { ProgressMessage } from '@flotilla/engine-api';
import {
  assembleImage,
  buildImage,
  buildLayer,
  buildTar,
  dockerArchive,
  escapeName,
  everyKind,
  type LayerEntry,
  ociArchive,
  Random,
  randomBytesOf,
  type StaticRegistry,
  sha256,
  spoiledJson,
  spoiledTar,
  startStaticRegistry,
  strayNames,
  type TestImage,
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

/** Lines of an answer: the words of its last. */
async function failure(answer: Promise<ProgressMessage[]>): Promise<string> {
  return (await answer).at(-1)?.errorDetail?.message ?? 'succeeded';
}

/** A tar whose first entry says that it has so many bytes, and may say that it is of another type. */
function claiming(tar: Buffer, sizeBytes: bigint, type?: string): Buffer {
  const bytes = Buffer.from(tar);
  bytes.fill(0, 124, 136);
  bytes[124] = 0x80;
  bytes.writeBigUInt64BE(sizeBytes, 128);
  if (type !== undefined) bytes.write(type, 156);
  bytes.fill(' ', 148, 156);
  const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return bytes;
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

  it('that say they are larger than any disk: pull, load, import, context and ADD', async () => {
    const huge = claiming(await buildTar([{ path: 'huge', content: 'x' }]), 1n << 50n);
    const image = assembleImage([{ bytes: huge, digest: sha256(huge), diffId: sha256(huge), compression: 'none' }], { format: 'oci' });
    registry.add('huge', 'latest', image);
    const added = await buildTar([
      { path: 'Dockerfile', content: 'FROM scratch\nADD huge.tar /\n' },
      { path: 'huge.tar', content: huge },
    ]);
    const messages = [
      await failedPull(`${registry.address}/huge`),
      await failure(stack.load(await dockerArchive([{ image, tags: ['huge:1'] }]))),
      await failure(stack.import(huge, 'huge:2')),
      await failure(stack.build(huge)),
      await failure(stack.build(added)),
    ];
    for (const message of messages) expect(message).toMatch(/no space left on device|unpacks to more than the \d+ bytes/);
    await stack.clear();
    nothingLeft();
  });

  it('that unpack to more than there is room for', async () => {
    await stack.crash('image-service');
    await stack.startService('image-service', { FLOTILLA_MAX_LAYER_BYTES: '1000000' });
    const image = await buildImage({ layers: [[{ path: 'bomb', content: Buffer.alloc(40_000_000) }]] });
    registry.add('bomb', 'latest', image);
    const tooLarge = /larger than 1000000 bytes|more than the 1000000 bytes/;
    expect(await failedPull(`${registry.address}/bomb`)).toMatch(tooLarge);
    expect(await failure(stack.load(gzipSync(await dockerArchive([{ image, tags: ['bomb:1'] }]))))).toMatch(tooLarge);
    expect(await failure(stack.import(gzipSync(await buildTar([{ path: 'bomb', content: Buffer.alloc(40_000_000) }])), 'bomb:2'))).toMatch(
      tooLarge,
    );
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
      'a file that is larger than any disk',
      async () => claiming(await buildTar([{ path: 'x', content: 'x' }]), 1n << 50n),
      /no space left on device/,
    ],
    ['a size beyond all numbers', async () => claiming(await buildTar([{ path: 'x', content: 'x' }]), 1n << 62n), /invalid tar header/],
    [
      'an extension larger than memory',
      async () => claiming(await buildTar([{ path: 'x', content: 'x' }]), 1n << 40n, 'x'),
      /tar extension of 1099511627776 bytes is too large/,
    ],
    [
      'more entries than any archive has',
      async () => Buffer.concat(Array(20_001).fill((await buildTar([{ path: 'x/' }])).subarray(0, 512))),
      /more than 20000 entries/,
    ],
    [
      'a manifest that is too large',
      () => buildTar([{ path: 'manifest.json', content: Buffer.alloc(5_000_000, ' ') }]),
      /manifest.json is larger than \d+ bytes/,
    ],
    [
      'a config that is too large',
      () =>
        buildTar([
          { path: 'config.json', content: Buffer.alloc(9_000_000, ' ') },
          { path: 'manifest.json', content: '[{"Config":"config.json","Layers":[]}]' },
        ]),
      /config.json is larger than 8388608 bytes/,
    ],
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

/**
 * Real archives with changes at random, the same for the same seed. Whatever comes of them: an answer in words for people, a service that lives, images
 * that can be shown and removed, and nothing outside or left over.
 */
describe('spoiled archives', () => {
  const count = process.env.FLOTILLA_SOAK === '1' ? 400 : 20;
  const timeoutMs = 20_000 + count * 1500;
  let layerTars: Buffer[];
  let images: TestImage[];
  let outside: Record<string, string[]>;
  let instances: string;

  beforeAll(async () => {
    layerTars = [await buildTar(everyKind), sparseTar('gnu'), sparseTar('pax')];
    const layers = layerTars.map((bytes) => ({ bytes, digest: sha256(bytes), diffId: sha256(bytes), compression: 'none' as const }));
    const config = {
      Env: ['A=1'],
      Cmd: ['/a'],
      ExposedPorts: { '80/tcp': {} },
      Volumes: { '/v': {} },
      Labels: { a: 'b' },
      Healthcheck: { Test: ['CMD', 'x'], Interval: 1e9 },
      OnBuild: ['RUN x'],
    };
    images = [assembleImage(layers, { config, format: 'oci' }), assembleImage(layers.slice(0, 2), { config, format: 'oci' })];
    outside = neighbours();
    instances = stack.running('image-service');
  });

  /** What stands around the places that archives may write to. */
  function neighbours(): Record<string, string[]> {
    const own = [stack.root, join(stack.dataRoot, '..'), stack.dataRoot].map((folder) => [folder, readdirSync(folder).sort()]);
    return Object.fromEntries([...own, ...['/', '/etc'].map((folder) => [folder, strayNames(folder)])]);
  }

  async function endures(seed: number, work: () => Promise<ProgressMessage[]>): Promise<boolean> {
    const lines = await work();
    // An archive of no images gives none, without a word.
    const last: ProgressMessage = lines.at(-1) ?? { status: 'nothing' };
    const message = last.errorDetail?.message;
    const context = `seed ${seed}: ${JSON.stringify(last)?.slice(0, 400)}`;
    expect(message ?? last.stream ?? last.status, context).toBeTruthy();
    // Neither a fault of the program nor a path of this machine.
    expect(message ?? '', context).not.toMatch(
      /undefined|\bnull\b|NaN|\[object|TypeError|RangeError|Cannot (?!locate)|not a function|\bE[A-Z]{4,}\b|call stack|flotilla-images/,
    );
    for (const { Id } of await stack.list({}, true)) {
      await stack.inspect(Id);
      // dockerd tells no more of such an image either.
      await stack.images.history({ image: Id, platform: '' }).catch((error: Error) => {
        expect(error.message, context).toBe('too many non-empty layers in History section');
      });
    }
    // A build that fails leaves the steps before.
    if (message === undefined || lines.length > 1) await stack.clear();
    expect(await stack.list({}, true), context).toEqual([]);
    nothingLeft();
    expect(neighbours(), context).toEqual(outside);
    expect(stack.running('image-service'), `${context}\n${stack.log.slice(-2000)}`).toBe(instances);
    return message === undefined;
  }

  /** Runs all seeds; some must be taken and some refused, or the changes are too weak or too strong to show anything. */
  async function everySeed(work: (random: Random) => Promise<() => Promise<ProgressMessage[]>>): Promise<void> {
    let taken = 0;
    for (let seed = 1; seed <= count; seed++) if (await endures(seed, await work(new Random(seed)))) taken++;
    expect(taken).toBeGreaterThan(0);
    expect(taken).toBeLessThan(count);
  }

  it('their layers', { timeout: timeoutMs }, () =>
    everySeed(async (random) => {
      const bytes = spoiledTar(random.pick(layerTars as [Buffer, ...Buffer[]]), random);
      const layer = { bytes, digest: sha256(bytes), diffId: sha256(bytes), compression: 'none' as const };
      const archive = await dockerArchive([{ image: assembleImage([layer]), tags: ['spoiled:1'] }]);
      return () => stack.load(archive);
    }),
  );

  it('the archive around them, compressed or not', { timeout: timeoutMs }, async () => {
    const whole = [
      await dockerArchive(images.map((image, i) => ({ image, tags: [`spoiled:${i}`] }))),
      await ociArchive(images.map((image, i) => ({ image, tags: [`docker.io/library/spoiled:${i}`] }))),
    ] as const;
    await everySeed(async (random) => {
      const archive = packed(spoiledTar(random.pick(whole), random), random);
      return () => stack.load(archive);
    });
  });

  it('manifests and configs', { timeout: timeoutMs }, () =>
    everySeed(async (random) => {
      const archive = await spoiledDocuments(images[0] as TestImage, random);
      return () => stack.load(archive);
    }),
  );

  it('root file systems to import', { timeout: timeoutMs }, () =>
    everySeed(async (random) => {
      const archive = packed(spoiledTar(random.pick(layerTars as [Buffer, ...Buffer[]]), random), random);
      return () => stack.import(archive, 'spoiled:1');
    }),
  );

  it('contexts to build, and archives to add', { timeout: timeoutMs }, () =>
    everySeed(async (random) => {
      const inner = random.pick(layerTars as [Buffer, ...Buffer[]]);
      const context = await buildTar([
        { path: 'Dockerfile', content: random.below(2) === 0 ? plainDockerfile : spoiledDockerfile(random) },
        ...everyKind.filter((entry) => entry.type !== 'character-device' && entry.type !== 'fifo'),
        { path: 'added.tar', content: random.below(2) === 0 ? inner : packed(spoiledTar(inner, random), random) },
      ]);
      const archive = random.below(2) === 0 ? context : packed(spoiledTar(context, random), random);
      return () => stack.build(archive, { tags: ['spoiled:1'] });
    }),
  );
});

function sparseTar(format: 'gnu' | 'pax'): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-sparse-'));
  try {
    const script = `truncate -s 3M sparse; for at in 0 1000000 2500000; do printf data | dd of=sparse bs=1 seek=$at conv=notrunc status=none; done
      echo one > one; ln one two; tar c --sparse --format=${format} --owner=0 --group=0 --mtime=@0 --sort=name .`;
    return execFileSync('sh', ['-ec', script], { cwd: folder, maxBuffer: 8 << 20 });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function packed(tar: Buffer, random: Random): Buffer {
  const compressed = random.pick<() => Buffer>([
    () => tar,
    () => tar,
    () => gzipSync(tar, { level: 1 }),
    () => zstdCompressSync(tar),
    () => execFileSync('xz', ['-0c'], { input: tar, maxBuffer: 8 << 20 }),
    () => execFileSync('bzip2', ['-c'], { input: tar, maxBuffer: 8 << 20 }),
  ])();
  // Sometimes what the compression made is hurt too.
  if (compressed === tar || random.below(4) > 0) return compressed;
  if (random.below(2) === 0) return compressed.subarray(0, random.below(compressed.length));
  const at = random.below(compressed.length);
  compressed[at] = (compressed[at] ?? 0) ^ 0x10;
  return compressed;
}

/** One of its documents is spoiled, and those above it know the digest of what came of it. */
async function spoiledDocuments(image: TestImage, random: Random): Promise<Buffer> {
  const which = random.pick(['config', 'manifest', 'index', 'docker-config', 'docker-manifest'] as const);
  const spoil = (name: typeof which, text: string): string => (which === name ? spoiledJson(text, random) : text);
  const layers: LayerEntry[] = image.layers.map((layer) => ({ path: `blobs/${layer.digest.replace(':', '/')}`, content: layer.bytes }));
  if (which.startsWith('docker')) {
    const manifest = JSON.stringify([{ Config: 'config.json', RepoTags: ['spoiled:1'], Layers: layers.map((layer) => layer.path) }]);
    return buildTar([
      ...layers,
      { path: 'config.json', content: spoil('docker-config', image.config.toString()) },
      { path: 'manifest.json', content: spoil('docker-manifest', manifest) },
    ]);
  }
  const config = spoil('config', image.config.toString());
  const { config: descriptor, ...others } = JSON.parse(image.manifest.toString()) as { config: object };
  const manifest = spoil(
    'manifest',
    JSON.stringify({ ...others, config: { ...descriptor, digest: sha256(config), size: Buffer.byteLength(config) } }),
  );
  const index = JSON.stringify({
    schemaVersion: 2,
    manifests: [
      {
        ...image.manifestDescriptor,
        digest: sha256(manifest),
        size: Buffer.byteLength(manifest),
        annotations: { 'io.containerd.image.name': 'docker.io/library/spoiled:1' },
      },
    ],
  });
  return buildTar([
    ...layers,
    ...[config, manifest].map((content) => ({ path: `blobs/${sha256(content).replace(':', '/')}`, content })),
    { path: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { path: 'index.json', content: spoil('index', index) },
  ]);
}

const plainDockerfile = 'FROM scratch\nCOPY . /all/\nADD added.tar /added/\nLABEL a=b\n';

/** Instructions that need no container, their words changed. */
function spoiledDockerfile(random: Random): string {
  const words: readonly [string, ...string[]] = [
    'COPY',
    'ADD',
    'ENV',
    'WORKDIR',
    'FROM scratch AS x',
    'ARG',
    'LABEL',
    'VOLUME',
    'EXPOSE',
    '--from=0',
    '--from=x',
    '--chown=a:b',
    '--chmod=7777',
    '--link',
    '--parents',
    '--exclude=*',
    '.',
    '..',
    '/',
    `../../${escapeName}`,
    'link',
    'd/*',
    '[a-',
    '\\',
    '<<E',
    'E',
    '${',
    '${A:-${B}}',
    '"',
    '["a",',
    '["."]',
    'added.tar',
    '/added/',
    'a=b',
    '80/tcp',
    '99999999999',
    '\0',
    '\u{1f600}',
    '#',
  ];
  const lines = Array.from({ length: 1 + random.below(6) }, () =>
    Array.from({ length: 1 + random.below(4) }, () => random.pick(words)).join(' '),
  );
  return `FROM scratch\nCOPY . /all/\n${lines.join('\n')}\n`;
}
