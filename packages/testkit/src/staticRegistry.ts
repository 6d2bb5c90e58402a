/**
 * A registry that serves what a directory holds and checks nothing: for manifests and blobs that lie, servers that fail or are slow.
 *
 * The directory: blobs/sha256/HEX (any bytes), tags.json ({"repository:tag": {digest, mediaType}}).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeBlobs } from './imageArchives.ts';
import type { Descriptor, TestImage } from './images.ts';
import { type Place, ServerProcess } from './server.ts';
import { waitFor } from './waitFor.ts';

/** What may go wrong when a path is asked for. */
export interface Misbehaviour {
  /** Applies to request paths that contain this. */
  readonly path: string;
  /** Answer this instead. */
  readonly status?: number;
  /** Wait before the first byte. */
  readonly delayMs?: number;
  /** Cut the connection after so many bytes of the body. */
  readonly cutAfterBytes?: number;
  /** Only the first so many times; always when left out. */
  readonly times?: number;
}

export interface StaticRegistry {
  readonly address: string;
  readonly process: ServerProcess;
  /** Puts an image there under a tag; `damage` may change the blobs' bytes while their names stay. */
  add(repository: string, tag: string, image: TestImage, damage?: (digest: string, bytes: Buffer) => Buffer): void;
  /** Replaces the list of misbehaviours. */
  misbehave(list: readonly Misbehaviour[]): void;
  requests(): { method: string; path: string; range: string | undefined }[];
  stop(): Promise<void>;
}

export async function startStaticRegistry(options: { place?: Place } = {}): Promise<StaticRegistry> {
  const tags: Record<string, Descriptor> = {};
  const server = ServerProcess.start('static-registry', options.place, (directory) => {
    mkdirSync(join(directory, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(directory, 'tags.json'), '{}');
    writeFileSync(join(directory, 'misbehaviours.json'), '[]');
    return [process.execPath, join(import.meta.dirname, 'staticRegistryMain.ts'), directory];
  });
  const port = await waitFor(
    () => {
      server.assertRunning();
      return /listening on (\d+)/.exec(server.output)?.[1];
    },
    { what: 'the static registry' },
  );
  return {
    address: `127.0.0.1:${port}`,
    process: server,
    add: (repository, tag, image, damage) => {
      const blobs =
        damage === undefined ? image.blobs : new Map([...image.blobs].map(([digest, bytes]) => [digest, damage(digest, bytes)]));
      writeBlobs(server.directory, { ...image, blobs });
      tags[`${repository}:${tag}`] = image.manifestDescriptor;
      tags[`${repository}:${image.manifestDescriptor.digest}`] = image.manifestDescriptor;
      writeFileSync(join(server.directory, 'tags.json'), JSON.stringify(tags));
    },
    misbehave: (list) => writeFileSync(join(server.directory, 'misbehaviours.json'), JSON.stringify(list)),
    requests: () =>
      [...server.output.matchAll(/^request (\S+) (\S+) (\S*)$/gm)].map(([, method = '', path = '', range = '']) => ({
        method,
        path,
        range: range === '' ? undefined : range,
      })),
    stop: () => server.stop(),
  };
}
