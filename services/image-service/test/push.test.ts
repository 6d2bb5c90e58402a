/** push: what is sent, what is not, and what happens when a registry breaks off. The registries' own logs are the witnesses. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import type { ProgressMessage } from '@flotilla/engine-api';
import { digestOf, parseReference } from '@flotilla/oci';
import {
  type AccessLogEntry,
  assembleImage,
  buildImage,
  buildIndex,
  dockerArchive,
  pushImage,
  randomBytesOf,
  startRegistry,
  type TestImage,
  type TestRegistry,
} from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { PushTarget } from '../src/registry/pushTarget.ts';
import { Stack } from './stack.ts';

let stack: Stack;
let registry: TestRegistry;
let other: TestRegistry;

beforeAll(async () => {
  [registry, other] = await Promise.all([startRegistry(), startRegistry()]);
  stack = await Stack.start();
});
afterEach(() => stack.clear());
afterAll(async () => {
  await stack?.stop();
  await registry?.stop();
  await other?.stop();
});

const twoLayers = (seed: string, format: 'docker' | 'oci' = 'docker'): Promise<TestImage> =>
  buildImage({ layers: [[{ path: 'a', content: randomBytesOf(200_000, seed) }], [{ path: 'b', content: seed }]], format });

function digestSaid(lines: readonly ProgressMessage[]): string | undefined {
  return (lines.at(-1)?.aux as { Digest: string } | undefined)?.Digest;
}

function statuses(lines: readonly ProgressMessage[], status: string): number {
  return lines.filter((line) => line.status === status).length;
}

async function repoDigests(name: string): Promise<string[]> {
  return (await stack.inspect<{ RepoDigests: string[] }>(name)).RepoDigests;
}

/** What the registry is asked while work is done, without the reads. */
async function writes<T>(at: TestRegistry, work: () => Promise<T>): Promise<{ result: T; entries: AccessLogEntry[]; kinds: string[] }> {
  const before = at.requests().length;
  const result = await work();
  const entries = at.requests().slice(before);
  const kinds = entries.filter(({ method }) => !['GET', 'HEAD'].includes(method)).map(({ method, path }) => `${method} ${kindOf(path)}`);
  return { result, entries, kinds: kinds.sort() };
}

function kindOf(path: string): string {
  if (path.includes('/manifests/')) return 'manifest';
  return path.includes('mount=') ? 'mount' : 'upload';
}

describe('push', () => {
  it('sends what the registry lacks, and what it has not', async () => {
    const image = await twoLayers('made');
    await stack.load(await dockerArchive([{ image, tags: [`${registry.address}/pushed:1`] }]));
    expect(await repoDigests(image.id)).toEqual([]);
    const first = await writes(registry, () => stack.push(`${registry.address}/pushed`, '1'));
    expect(first.result[0]).toEqual({ status: `The push refers to repository [${registry.address}/pushed]` });
    expect(statuses(first.result, 'Pushed')).toBe(2);
    const digest = digestSaid(first.result);
    expect(await repoDigests(image.id)).toEqual([`${registry.address}/pushed@${digest}`]);
    // Two layers and a config: each begun, sent and ended; then the manifest.
    expect(first.kinds).toEqual([
      ...Array(3).fill('PATCH upload'),
      ...Array(3).fill('POST upload'),
      'PUT manifest',
      ...Array(3).fill('PUT upload'),
    ]);
    const again = await writes(registry, () => stack.push(`${registry.address}/pushed`, '1'));
    expect(statuses(again.result, 'Layer already exists')).toBe(2);
    expect(digestSaid(again.result)).toBe(digest);
    expect(again.kinds).toEqual(['PUT manifest']);
    expect(again.entries.filter(({ method, status }) => method === 'HEAD' && status === 200)).toHaveLength(3);
    await stack.images.tag({ image: image.id, repository: `${registry.address}/other`, tag: 'x' });
    const mounted = await writes(registry, () => stack.push(`${registry.address}/other`, 'x'));
    expect(statuses(mounted.result, 'Mounted from pushed')).toBe(2);
    expect(mounted.kinds.filter((kind) => kind === 'POST mount')).toHaveLength(2);
    // Only the config is sent.
    expect(mounted.kinds.filter((kind) => kind === 'PATCH upload')).toHaveLength(1);
    expect(digestSaid(mounted.result)).toBe(digest);
    await stack.clear();
    await stack.pull(`${registry.address}/other`, { tag: 'x' });
    expect((await stack.inspect<{ Id: string }>(`${registry.address}/other:x`)).Id).toBe(image.id);
    expect((await stack.push('nothing', 'here')).map(({ status, error }) => status ?? error)).toEqual([
      'The push refers to repository [docker.io/library/nothing]',
      'An image does not exist locally with the tag: nothing',
    ]);
    expect((await stack.push(`${registry.address}/other`, 'y')).at(-1)?.error).toBe(`tag does not exist: ${registry.address}/other:y`);
  });

  it.each(['docker', 'oci'] as const)('gives back what was pulled, byte for byte, also from an index: %s', async (format) => {
    const image = await twoLayers(`index ${format}`, format);
    const foreign = await buildImage({ layers: [[{ path: 'f', content: 'f' }]], format, architecture: 's390x' });
    const index = buildIndex([foreign, image]);
    await pushImage(index, { address: registry.address, repository: `from-${format}`, tag: '1' });
    await stack.pull(`${registry.address}/from-${format}`, { tag: '1' });
    await stack.images.tag({ image: image.id, repository: `${other.address}/to-${format}`, tag: '1' });
    const lines = await stack.push(`${other.address}/to-${format}`, '1');
    expect(digestSaid(lines)).toBe(image.manifestDescriptor.digest);
    expect((await repoDigests(image.id)).sort()).toEqual(
      [
        `${registry.address}/from-${format}@${index.descriptor.digest}`,
        `${other.address}/to-${format}@${image.manifestDescriptor.digest}`,
      ].sort(),
    );
  });

  it('keeps the digest when the layers were here before in another form', async () => {
    const image = await twoLayers('loaded first');
    await pushImage(image, { address: registry.address, repository: 'first', tag: '1' });
    await stack.load(await dockerArchive([{ image, tags: ['loaded:1'] }]));
    const pulled = await stack.pull(`${registry.address}/first`, { tag: '1' });
    // Nothing is brought, and nothing told of its layers.
    expect(pulled.map(({ status }) => status?.split(':')[0])).toEqual(['Pulling from first', 'Digest', 'Status']);
    // In the same registry the blobs are mounted, elsewhere they are brought from where the image came from.
    await stack.images.tag({ image: image.id, repository: `${registry.address}/second`, tag: '1' });
    const near = await writes(registry, () => stack.push(`${registry.address}/second`, '1'));
    expect(digestSaid(near.result)).toBe(image.manifestDescriptor.digest);
    expect(near.kinds.filter((kind) => kind === 'POST mount')).toHaveLength(2);
    await stack.images.tag({ image: image.id, repository: `${other.address}/third`, tag: '1' });
    const far = await stack.push(`${other.address}/third`, '1');
    expect(digestSaid(far)).toBe(image.manifestDescriptor.digest);
    expect(statuses(far, 'Pushed')).toBe(2);
  });

  it('keeps foreign layers, empty ones and one layer twice as they were; foreign ones are not sent', async () => {
    const parts = await buildImage({ layers: [[{ path: 'foreign', content: randomBytesOf(3000) }], [], [{ path: 'a', content: 'a' }]] });
    const [foreign, empty, file] = parts.layers;
    if (foreign === undefined || empty === undefined || file === undefined) throw new Error('three layers were asked for');
    const plain = assembleImage([foreign, empty, file, empty]);
    const manifest = JSON.parse(plain.manifest.toString()) as { layers: { mediaType: string; urls?: string[] }[] };
    manifest.layers[0] = {
      ...manifest.layers[0],
      mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      urls: ['http://127.0.0.1:1/foreign'],
    };
    const bytes = Buffer.from(JSON.stringify(manifest));
    const digest = digestOf(bytes);
    const image: TestImage = {
      ...plain,
      manifest: bytes,
      manifestDescriptor: { ...plain.manifestDescriptor, digest, size: bytes.length },
      blobs: new Map([...plain.blobs, [digest, bytes]]),
    };
    await pushImage(image, { address: registry.address, repository: 'shapes', tag: '1' });
    await stack.pull(`${registry.address}/shapes`, { tag: '1' });
    const inspected = await stack.inspect<{ Size: number; RootFS: { Layers: string[] } }>(image.id);
    expect(inspected.RootFS.Layers).toEqual([foreign, empty, file, empty].map((layer) => layer.diffId));
    expect(inspected.Size).toBe(3001);
    await stack.images.tag({ image: image.id, repository: `${other.address}/shapes`, tag: '1' });
    // A tag brings no digest of its own.
    expect(await repoDigests(image.id)).toEqual([`${registry.address}/shapes@${digest}`]);
    const lines = await stack.push(`${other.address}/shapes`, '1');
    expect(digestSaid(lines)).toBe(digest);
    expect(statuses(lines, 'Pushed')).toBe(2);
    const sent = await fetch(`http://${other.address}/v2/shapes/blobs/${foreign.digest}`, { method: 'HEAD' });
    expect(sent.status).toBe(404);
    await stack.load(await stack.save(`${registry.address}/shapes:1`));
    expect((await stack.inspect<{ Id: string }>(`${registry.address}/shapes:1`)).Id).toBe(image.id);
  });

  it('compresses anew when the blobs are nowhere any more', async () => {
    const image = await twoLayers('gone');
    await pushImage(image, { address: registry.address, repository: 'source', tag: '1' });
    await stack.load(await dockerArchive([{ image, tags: ['loaded:1'] }]));
    await stack.pull(`${registry.address}/source`, { tag: '1' });
    for (const { digest } of image.layers) {
      const deleted = await fetch(`http://${registry.address}/v2/source/blobs/${digest}`, { method: 'DELETE' });
      expect(deleted.status).toBe(202);
    }
    await stack.images.tag({ image: image.id, repository: `${other.address}/anew`, tag: '1' });
    const lines = await stack.push(`${other.address}/anew`, '1');
    expect(lines.at(-1)?.error).toBeUndefined();
    expect(digestSaid(lines)).not.toBe(image.manifestDescriptor.digest);
    await stack.clear();
    await stack.pull(`${other.address}/anew`, { tag: '1' });
    expect((await stack.inspect<{ Id: string }>(`${other.address}/anew:1`)).Id).toBe(image.id);
  });
});

/** A registry that holds uploads as the specification says, and may break off. */
class BreakingRegistry {
  readonly server: Server;
  readonly blobs = new Map<string, Buffer>();
  readonly log: string[] = [];
  /** Cut after so many bytes of an upload, once each. */
  cuts: number[] = [];
  /** Keeps what arrived before a cut. */
  keeps = true;
  /** Answers the first piece and refuses the next. */
  onePieceOnly = false;
  /** Knows how far a piece came that was cut, and refuses the rest of it. */
  refusesRest = false;
  /** Manifests it still answers as the distribution project's registry does while another client's upload is being committed. */
  manifestsRefused = 0;
  patching = 0;
  mostPatching = 0;
  private stall: { at: number; reached: () => void } | undefined;
  private readonly uploads = new Map<string, Buffer>();
  private readonly wasCut = new Set<string>();

  constructor() {
    this.server = createServer((request, response) => {
      this.answer(request, response).catch(() => response.destroy());
    });
  }

  /** The next upload stops after so many bytes, for as long as its client stays; resolves when it has. */
  stallAt(at: number): Promise<void> {
    return new Promise((reached) => {
      this.stall = { at, reached };
    });
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://registry');
    const { method } = request;
    const end = (status: number, headers: Record<string, string> = {}): void => {
      response.writeHead(status, headers).end();
    };
    if (url.pathname === '/v2/') return end(200);
    if (url.pathname.includes('/manifests/')) {
      request.resume();
      if (method === 'PUT') this.log.push('PUT manifest');
      if (method !== 'PUT' || this.manifestsRefused-- <= 0) return end(method === 'PUT' ? 201 : 404);
      const errors = [
        { code: 'DIGEST_INVALID', message: 'provided digest did not match uploaded content', detail: 'invalid checksum digest format' },
      ];
      response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ errors }));
      return;
    }
    if (!url.pathname.includes('/uploads/')) return end(this.blobs.has(url.pathname.split('/').at(-1) ?? '') ? 200 : 404);
    if (method === 'POST') {
      const id = `${this.uploads.size + 1}`;
      this.uploads.set(id, Buffer.alloc(0));
      return end(202, { location: `${url.pathname}${id}` });
    }
    const id = url.pathname.split('/').at(-1) ?? '';
    const held = this.uploads.get(id);
    this.log.push(`${method} ${request.headers['content-range'] ?? request.headers['content-length'] ?? ''}`.trim());
    if (held === undefined) return end(404);
    const range = (): Record<string, string> => ({
      location: url.pathname,
      range: `0-${Math.max(0, (this.uploads.get(id)?.length ?? 0) - 1)}`,
    });
    if (method === 'GET') return end(204, range());
    if (method === 'PUT') {
      const digest = url.searchParams.get('digest') ?? '';
      if (digestOf(held) !== digest) return end(400);
      this.blobs.set(digest, held);
      return end(201);
    }
    if (this.onePieceOnly && held.length > 0) return end(405);
    if (this.refusesRest && this.wasCut.has(id)) return end(416);
    this.patching++;
    this.mostPatching = Math.max(this.mostPatching, this.patching);
    try {
      const stall = this.stall;
      this.stall = undefined;
      const chunks: Buffer[] = [held];
      let size = held.length;
      for await (const chunk of request as AsyncIterable<Buffer>) {
        chunks.push(chunk);
        size += chunk.length;
        if (stall !== undefined && size > stall.at) {
          stall.reached();
          await new Promise((resolve) => request.once('close', resolve));
          return;
        }
        if (size > (this.cuts[0] ?? Number.POSITIVE_INFINITY)) {
          this.cuts.shift();
          this.wasCut.add(id);
          if (this.keeps) this.uploads.set(id, Buffer.concat(chunks));
          else this.uploads.delete(id);
          request.socket.destroy();
          return;
        }
      }
      this.uploads.set(id, Buffer.concat(chunks));
    } finally {
      this.patching--;
    }
    end(202, range());
  }
}

describe('a registry that breaks off', () => {
  const pieceBytes = 100_000;
  const content = randomBytesOf(250_000);
  const blob = { digest: digestOf(content), mediaType: 'application/octet-stream', sizeBytes: content.length };
  let breaking: BreakingRegistry;

  beforeAll(async () => {
    breaking = new BreakingRegistry();
    await new Promise<void>((resolve) => breaking.server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => breaking.server.close());

  /** Sends the blob; answers what the registry saw of it. */
  async function sent(eachPiece = pieceBytes): Promise<string[]> {
    breaking.blobs.clear();
    breaking.log.length = 0;
    const reference = parseReference(`${breaking.address}/broken`);
    const target = new PushTarget((work) => work(breaking.address), reference, '', AbortSignal.timeout(20_000), eachPiece);
    const bytes = async (start: number, end: number): Promise<Readable> => Readable.from([content.subarray(start, end)]);
    // The registry itself, without a registry-proxy that takes the name of the registry off the path.
    await target.blob(blob, { sources: [], bytes, onProgress: () => undefined });
    expect(breaking.blobs.get(blob.digest)?.equals(content)).toBe(true);
    return [...breaking.log];
  }

  it('is asked how far it got, and given the rest', async () => {
    breaking.cuts = [150_000];
    breaking.keeps = true;
    const log = await sent();
    expect(log.slice(0, 3)).toEqual(['PATCH 0-99999', 'PATCH 100000-199999', 'GET']);
    const starts = log.slice(3).flatMap((line) => /^PATCH (\d+)-/.exec(line)?.[1] ?? []);
    expect(Number(starts[0])).toBeGreaterThan(150_000);
  });

  it('is given all of it again when it has forgotten', async () => {
    breaking.cuts = [150_000];
    breaking.keeps = false;
    const pieces = ['PATCH 0-99999', 'PATCH 100000-199999'];
    expect(await sent()).toEqual([...pieces, 'GET', ...pieces, 'PATCH 200000-249999', 'PUT 0']);
  });

  it.each([
    ['one of several', pieceBytes, 2],
    ['the only one', content.length, 1],
  ])('is given all of it again when it does not go on in the middle of a piece: %s', async (_what, eachPiece, piecesBefore) => {
    breaking.cuts = [150_000];
    breaking.keeps = true;
    breaking.refusesRest = true;
    const log = await sent(eachPiece);
    breaking.refusesRest = false;
    const refused = log[piecesBefore + 1] ?? '';
    expect(log[piecesBefore]).toBe('GET');
    expect(Number(/^PATCH (\d+)-/.exec(refused)?.[1])).toBeGreaterThan(150_000);
    expect(log.slice(piecesBefore + 2)).toEqual(['PATCH 250000', 'PUT 0']);
  });

  it('and takes blobs in one piece only is given one', async () => {
    breaking.onePieceOnly = true;
    expect(await sent()).toEqual(['PATCH 0-99999', 'PATCH 100000-199999', 'PATCH 250000', 'PUT 0']);
    breaking.onePieceOnly = false;
  });

  it.each([
    ['for a moment', 2, 3, undefined],
    ['for good', 100, 4, 'provided digest did not match uploaded content'],
  ])('and takes a manifest for invalid while others commit what it names, is asked again: %s', async (_what, refused, asked, message) => {
    breaking.manifestsRefused = refused;
    breaking.log.length = 0;
    const target = new PushTarget(
      (work) => work(breaking.address),
      parseReference(`${breaking.address}/raced`),
      '',
      AbortSignal.timeout(20_000),
    );
    const pushed = target.putManifest('1', { mediaType: 'application/vnd.oci.image.manifest.v1+json', bytes: Buffer.from('{}') });
    if (message === undefined) await pushed;
    else await expect(pushed).rejects.toThrow(message);
    expect(breaking.log).toEqual(Array(asked).fill('PUT manifest'));
    breaking.manifestsRefused = 0;
  });

  it('gets several layers at once, and the rest of what was cut, through registry-proxy', async () => {
    breaking.cuts = [1_000_000];
    breaking.keeps = true;
    breaking.log.length = 0;
    const layers = Array.from({ length: 4 }, (_, i) => [{ path: `${i}`, content: randomBytesOf(2_000_000, `parallel ${i}`) }]);
    const image = await buildImage({ layers });
    await stack.load(await dockerArchive([{ image, tags: [`${breaking.address}/several:1`] }]));
    const lines = await stack.push(`${breaking.address}/several`, '1');
    expect([statuses(lines, 'Pushed'), statuses(lines, 'Retrying in 1 second')]).toEqual([4, 1]);
    expect(breaking.mostPatching).toBeGreaterThan(1);
    expect(breaking.log.filter((line) => line === 'GET')).toHaveLength(1);
    expect(breaking.log.filter((line) => /^PATCH \d{6,7}-/.test(line))).toHaveLength(1);
  });

  it('waits for a registry-proxy that was killed, and goes on', async () => {
    const image = await buildImage({ layers: [[{ path: 'big', content: randomBytesOf(3_000_000, 'killed') }]] });
    await stack.load(await dockerArchive([{ image, tags: [`${breaking.address}/killed:1`] }]));
    const stalled = breaking.stallAt(1_000_000);
    const pushing = stack.push(`${breaking.address}/killed`, '1');
    await stalled;
    await stack.kill('registry-proxy');
    await stack.startService('registry-proxy');
    const lines = await pushing;
    expect(lines.at(-1)?.error).toBeUndefined();
    expect(statuses(lines, 'Pushed')).toBe(1);
  });
});
