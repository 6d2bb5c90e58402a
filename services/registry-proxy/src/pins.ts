/** Images that are never evicted: each pin names an image and the blobs it needed when it was pinned. One file a pin, so replicas share them. */
import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest } from '@flotilla/oci';
import { readDocument, writeDurably } from './cache/durableFile.ts';

export interface Pin {
  readonly image: string;
  readonly digests: readonly Digest[];
}

export class Pins {
  private readonly folder: string;
  private readonly pinned = new Map<string, Pin>();
  /** The blobs of all pins. */
  private digests: ReadonlySet<Digest> = new Set();

  private constructor(root: string) {
    this.folder = join(root, 'pins');
  }

  static async open(root: string): Promise<Pins> {
    const pins = new Pins(root);
    await pins.refresh();
    return pins;
  }

  /** Sees what replicas have pinned. */
  async refresh(): Promise<void> {
    const found: Pin[] = [];
    for (const name of await readdir(this.folder).catch(() => [])) {
      if (!name.endsWith('.json')) continue;
      const pin = await readDocument(join(this.folder, name), parsePin);
      if (pin !== undefined) found.push(pin);
    }
    this.pinned.clear();
    for (const pin of found) this.pinned.set(pin.image, pin);
    this.index();
  }

  has(digest: Digest): boolean {
    return this.digests.has(digest);
  }

  private index(): void {
    this.digests = new Set([...this.pinned.values()].flatMap((pin) => pin.digests));
  }

  async put(pin: Pin): Promise<void> {
    await writeDurably(this.path(pin.image), JSON.stringify(pin));
    this.pinned.set(pin.image, pin);
    this.index();
  }

  async list(): Promise<string[]> {
    await this.refresh();
    return [...this.pinned.keys()].sort();
  }

  /** @returns those of the images that were pinned. */
  async remove(images: readonly string[]): Promise<string[]> {
    await this.refresh();
    const removed = images.filter((image) => this.pinned.delete(image));
    this.index();
    for (const image of removed) await rm(this.path(image), { force: true });
    return removed;
  }

  private path(image: string): string {
    return join(this.folder, `${createHash('sha256').update(image).digest('hex')}.json`);
  }
}

function parsePin(document: unknown): Pin | undefined {
  const { image, digests } = document as { image?: unknown; digests?: unknown };
  if (typeof image !== 'string' || !Array.isArray(digests)) return undefined;
  return { image, digests: digests.filter((each): each is Digest => typeof each === 'string' && isDigest(each)) };
}
