/** Removing images: dockerd's rules of what a name, an id, force and containers mean together. */
import type { ImageDeleteItem } from '@flotilla/engine-api';
import { Conflict } from '@flotilla/errors';
import { chainIds, type Digest, familiarString, parseReference, type Reference, shortDigest, withDefaultTag } from '@flotilla/oci';
import type { DomainEvent, Lease } from '@flotilla/records';
import { imageEvent } from './events.ts';
import type { Image } from './image.ts';
import type { ImageStore } from './imageStore.ts';
import { sameRepository } from './names.ts';

/** A container that was made from an image. */
export interface ContainerUse {
  readonly id: string;
  readonly running: boolean;
}

/** Who uses images; container-service, or a fake. */
export interface ContainersOfImages {
  /** Containers made from the image, running ones first. */
  of(imageId: Digest): Promise<readonly ContainerUse[]>;
}

export interface RemoveOptions {
  /** Also what several names or stopped containers still use. */
  readonly force: boolean;
  /** Also parents that are then of no use. */
  readonly pruneParents: boolean;
}

/** What was done, and how much that freed. */
export interface Removal {
  readonly items: ImageDeleteItem[];
  freedBytes: number;
}

/** Why an image may not go. A soft reason gives way to force. */
interface Obstacle {
  readonly hard: boolean;
  /** A container uses the image. */
  readonly used: boolean;
  readonly reason: string;
}

export class Remover {
  private readonly store: ImageStore;
  private readonly containers: ContainersOfImages;

  constructor(options: { store: ImageStore; containers: ContainersOfImages }) {
    this.store = options.store;
    this.containers = options.containers;
  }

  /** @throws NotFound; Conflict in dockerd's words; Unavailable when nobody can say which containers there are. */
  async remove(name: string, options: RemoveOptions): Promise<Removal> {
    const removal: Removal = { items: [], freedBytes: 0 };
    await this.store.change(async (lease) => {
      const image = this.store.find(name);
      if (isIdPrefix(image.id, name)) await this.removeById(lease, image, options, removal);
      else await this.removeByName(lease, image, name, options, removal);
    });
    void this.store.content.emptyTrash();
    return removal;
  }

  private async removeByName(lease: Lease, image: Image, name: string, options: RemoveOptions, removal: Removal): Promise<void> {
    const names = this.store.references(image.id);
    if (!options.force && isSingle(names)) {
      // Without its last name the image would dangle: who uses it must be said first.
      const [user] = await this.users(image);
      if (user !== undefined) {
        throw new Conflict(
          `conflict: unable to remove repository reference "${name}" (must force) - container ${user.id.slice(0, 12)} is using its referenced image ${shortDigest(image.id)}`,
        );
      }
    }
    const removed = exactName(withDefaultTag(parseReference(name)));
    await this.untag(lease, image, [removed], removal, 1);
    if (removed.digest === undefined) {
      const left = this.store.references(image.id).filter((each) => sameRepository(each, removed));
      // Digests alone do not keep a repository's name on an image.
      if (left.every((each) => each.digest !== undefined)) await this.untag(lease, image, left, removal, 0);
    }
    if (this.store.references(image.id).length > 0) return;
    await this.delete(lease, image, { ...options, quiet: true }, removal);
  }

  private async removeById(lease: Lease, image: Image, options: RemoveOptions, removal: Removal): Promise<void> {
    const names = this.store.references(image.id);
    if (isSingle(names)) {
      const obstacle = await this.obstacle(image, { ignoreNames: true });
      if (obstacle !== undefined && (obstacle.hard || !options.force)) throw conflict(image, obstacle);
      if (names.length > 0) await this.untag(lease, image, names, removal, names.length);
    }
    await this.delete(lease, image, { ...options, quiet: false }, removal);
  }

  private async untag(lease: Lease, image: Image, names: readonly Reference[], removal: Removal, announced: number): Promise<void> {
    if (names.length === 0) return;
    const events: DomainEvent[] = names.slice(0, announced).map(() => imageEvent('untag', image.id, image.id, image));
    await this.store.untag(lease, names, events);
    removal.items.push(...names.map((name) => ({ Untagged: familiarString(name) })));
  }

  private async delete(lease: Lease, image: Image, options: RemoveOptions & { quiet: boolean }, removal: Removal): Promise<void> {
    const obstacle = await this.obstacle(image, {});
    if (obstacle !== undefined && (obstacle.hard || !options.force)) {
      // Its name is gone already, which is what was asked for; a dangling image that nobody uses is worth a word.
      const isDangling = this.store.references(image.id).length === 0 && !this.store.hasChildren(image.id);
      if (options.quiet && (!isDangling || obstacle.used)) return;
      throw conflict(image, obstacle);
    }
    const names = this.store.references(image.id);
    const freed = await this.store.delete(lease, image);
    removal.freedBytes += freed.sizeBytes;
    removal.items.push(...names.map((name) => ({ Untagged: familiarString(name) })), { Deleted: image.id });
    const chain = chainIds(image.layers);
    for (let i = image.layers.length - 1; i >= 0; i--) {
      const [layer, chainId] = [image.layers[i], chain[i]];
      if (layer !== undefined && chainId !== undefined && freed.layers.includes(layer)) removal.items.push({ Deleted: chainId });
    }
    const parent = image.record.parent === undefined ? undefined : this.store.get(image.record.parent);
    if (!options.pruneParents || parent === undefined || !this.store.mayUse(parent)) return;
    if (this.store.references(parent.id).length > 0 || this.store.holds.has(parent.id)) return;
    await this.delete(lease, parent, { force: false, pruneParents: true, quiet: true }, removal);
  }

  private async obstacle(image: Image, options: { ignoreNames?: boolean }): Promise<Obstacle | undefined> {
    if (this.store.hasChildren(image.id)) return { hard: true, used: false, reason: 'image has dependent child images' };
    const users = await this.users(image);
    const running = users.find((user) => user.running);
    if (running !== undefined) {
      return { hard: true, used: true, reason: `image is being used by running container ${running.id.slice(0, 12)}` };
    }
    if (options.ignoreNames !== true && this.store.references(image.id).length > 0) {
      return { hard: false, used: false, reason: 'image is referenced in multiple repositories' };
    }
    const [stopped] = users;
    if (stopped === undefined) return undefined;
    return { hard: false, used: true, reason: `image is being used by stopped container ${stopped.id.slice(0, 12)}` };
  }

  /** Nobody is asked about an image no snapshot stands on. */
  private async users(image: Image): Promise<readonly ContainerUse[]> {
    for (const snapshot of this.store.snapshots.values()) {
      if (snapshot.imageId === image.id) return this.containers.of(image.id);
    }
    return [];
  }
}

function conflict(image: Image, obstacle: Obstacle): Conflict {
  const force = obstacle.hard ? 'cannot be forced' : 'must be forced';
  return new Conflict(`conflict: unable to delete ${shortDigest(image.id)} (${force}) - ${obstacle.reason}`);
}

function exactName(reference: Reference): Reference {
  if (reference.digest === undefined) return reference;
  return { domain: reference.domain, path: reference.path, digest: reference.digest };
}

/** Whether a client wrote (the beginning of) the id and not a name. */
function isIdPrefix(id: Digest, text: string): boolean {
  return id.startsWith(text) || id.slice('sha256:'.length).startsWith(text);
}

/** One name at most: a tag, with or without digests of its own repository. */
function isSingle(names: readonly Reference[]): boolean {
  if (names.length <= 1) return true;
  const tags = names.filter((name) => name.digest === undefined);
  const digests = names.filter((name) => name.digest !== undefined);
  const [first = names[0]] = tags;
  if (tags.length > 1 || first === undefined || digests.length === 0) return false;
  return digests.every((name) => sameRepository(name, first));
}
