/**
 * Pushes a test image into a registry over HTTP, without any engine: monolithic uploads, then the manifest.
 *
 * A registry on the loopback of a test host cannot be reached from the test's own process, so there pushMain.ts does it inside.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CommandOptions, type CommandResult, mustSucceed } from './command.ts';
import { writeBlobs } from './imageArchives.ts';
import type { TestImage, TestIndex } from './images.ts';

export interface PushTarget {
  /** `host:port` of the registry. */
  readonly address: string;
  readonly repository: string;
  /** Left out: the manifest can be reached by its digest alone. */
  readonly tag?: string;
  readonly credentials?: { readonly user: string; readonly password: string };
}

/** One blob or manifest to push, in an order that a registry accepts. */
export interface PushItem {
  readonly digest: string;
  /** Set for manifests and indexes. */
  readonly mediaType?: string;
  /** What the manifest is put as; default its digest. */
  readonly reference?: string;
}

interface Runner {
  run(command: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
}

/** Pushes from inside `host` when given, else from this process; gives `repository@digest` as a full reference. */
export async function pushImage(content: TestImage | TestIndex, target: PushTarget, host?: Runner): Promise<string> {
  const items = pushOrder(content, target.tag);
  const descriptor = 'index' in content ? content.descriptor : content.manifestDescriptor;
  if (host === undefined) {
    const blobs =
      'index' in content
        ? new Map([...content.images.flatMap((image) => [...image.blobs]), [descriptor.digest, content.index]])
        : content.blobs;
    await pushItems(items, target, (digest) => blobs.get(digest) ?? Buffer.alloc(0));
  } else {
    const directory = mkdtempSync(join(tmpdir(), 'flotilla-push-'));
    try {
      writeBlobs(directory, content);
      writeFileSync(join(directory, 'push.json'), JSON.stringify({ items, target }));
      const env = { ...process.env, NODE_COMPILE_CACHE: join(import.meta.dirname, '../../../.cache/node/root') };
      mustSucceed(await host.run(process.execPath, [join(import.meta.dirname, 'pushMain.ts'), directory], { env }), 'push');
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }
  return `${target.address}/${target.repository}@${descriptor.digest}`;
}

function pushOrder(content: TestImage | TestIndex, tag: string | undefined): PushItem[] {
  const reference = tag === undefined ? {} : { reference: tag };
  if ('index' in content) {
    return [
      ...content.images.flatMap((image) => pushOrder(image, undefined)),
      { digest: content.descriptor.digest, mediaType: content.descriptor.mediaType, ...reference },
    ];
  }
  const manifest = content.manifestDescriptor;
  const blobs = [...content.blobs.keys()].filter((digest) => digest !== manifest.digest).map((digest) => ({ digest }));
  return [...blobs, { digest: manifest.digest, mediaType: manifest.mediaType, ...reference }];
}

/** Uploads what the registry does not have yet. */
export async function pushItems(items: readonly PushItem[], target: PushTarget, read: (digest: string) => Buffer): Promise<void> {
  const base = `http://${target.address}/v2/${target.repository}`;
  const headers: Record<string, string> = {};
  if (target.credentials !== undefined) {
    headers.authorization = `Basic ${Buffer.from(`${target.credentials.user}:${target.credentials.password}`).toString('base64')}`;
  }
  for (const { digest, mediaType, reference } of items) {
    if (mediaType !== undefined) {
      const put = await fetch(`${base}/manifests/${reference ?? digest}`, {
        method: 'PUT',
        headers: { ...headers, 'content-type': mediaType },
        body: new Uint8Array(read(digest)),
      });
      await expectStatus(put, [201]);
      continue;
    }
    const head = await fetch(`${base}/blobs/${digest}`, { method: 'HEAD', headers });
    if (head.status === 200) continue;
    const begun = await expectStatus(await fetch(`${base}/blobs/uploads/`, { method: 'POST', headers }), [202]);
    const location = new URL(begun.headers.get('location') ?? '', `http://${target.address}`);
    location.searchParams.set('digest', digest);
    const put = await fetch(location, {
      method: 'PUT',
      headers: { ...headers, 'content-type': 'application/octet-stream' },
      body: new Uint8Array(read(digest)),
    });
    await expectStatus(put, [201]);
  }
}

async function expectStatus(response: Response, statuses: readonly number[]): Promise<Response> {
  const body = await response.text();
  if (!statuses.includes(response.status)) throw new Error(`${response.url}: ${response.status} ${body}`);
  return response;
}
