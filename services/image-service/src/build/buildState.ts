/** Where a stage stands: the image that its last step gave, and the configuration that the next one starts from. */

import { System } from '@flotilla/errors';
import type { ContainerDefaults, Digest, HistoryEntry, Platform } from '@flotilla/oci';
import { rfc3339Nano } from '../clock.ts';
import type { Image, LayerRecord } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import { imagePlatform } from '../inspect.ts';
import type { HeldLayer } from '../newImage.ts';
import { makeConfig } from '../newImage.ts';

export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const defaultShell = ['/bin/sh', '-c'];

export class BuildState {
  /** Undefined on `scratch`, until a step has made something. */
  image: Image | undefined;
  config: Mutable<ContainerDefaults> = {};
  author = '';
  /** A CMD of this stage: ENTRYPOINT leaves it alone. */
  hasOwnCommand = false;
  private readonly store: ImageStore;
  private readonly platform: Platform;
  private readonly cacheOnly: boolean;
  private readonly releases: (() => Promise<void>)[] = [];
  /** Layers that stay while this build needs them, whatever becomes of their images. */
  private readonly held = new Map<Digest, LayerRecord>();

  /** @param cacheOnly - its images are in no list until somebody wants them. */
  constructor(store: ImageStore, platform: Platform, cacheOnly: boolean) {
    this.cacheOnly = cacheOnly;
    this.store = store;
    this.platform = platform;
  }

  begin(image: Image | undefined): void {
    if (image === undefined) this.config = {};
    else this.adopt(image);
    if (!(this.config.Env ?? []).some((variable) => variable.startsWith('PATH=')))
      this.config.Env = [...(this.config.Env ?? []), defaultPath];
  }

  get layers(): readonly Digest[] {
    return this.image?.layers ?? [];
  }

  get environment(): readonly string[] {
    return this.config.Env ?? [];
  }

  get shell(): readonly string[] {
    return this.config.Shell !== undefined && this.config.Shell.length > 0 ? this.config.Shell : defaultShell;
  }

  get workingDirectory(): string {
    return this.config.WorkingDir || '/';
  }

  /** Goes on from an image: the base, or what the cache knows. */
  adopt(image: Image): void {
    this.use(image);
    this.config = structuredClone(image.config.config) as Mutable<ContainerDefaults>;
  }

  private keep(image: Image): void {
    this.releases.push(this.store.hold(image));
    for (const diffId of image.layers) {
      const record = this.store.layers.get(diffId);
      if (record !== undefined) this.held.set(diffId, record);
    }
  }

  /** Goes on from what the cache knows: the configuration is what this build has made of it already. */
  use(image: Image): void {
    this.keep(image);
    this.image = image;
  }

  /** Makes the image that a step gives. */
  async commit(createdBy: string, layer: HeldLayer | undefined): Promise<Image> {
    const record = layer?.record;
    const entry: HistoryEntry = {
      created: rfc3339Nano(),
      ...(this.author === '' ? {} : { author: this.author }),
      created_by: createdBy,
      ...(record === undefined ? { empty_layer: true } : {}),
    };
    const layers = this.layers.map((diffId) => this.layer(diffId));
    const image = await this.make(entry, record === undefined ? layers : [...layers, record]);
    this.use(image);
    return image;
  }

  /** Makes the image of a step that another image's history and layers stand for. */
  restore(entry: HistoryEntry, layers: readonly Digest[]): Promise<Image> {
    return this.make(
      entry,
      layers.map((diffId) => this.layer(diffId)),
    );
  }

  private layer(diffId: Digest): LayerRecord {
    const known = this.store.layers.get(diffId) ?? this.held.get(diffId);
    if (known === undefined) throw new System(`layer ${diffId} is missing`);
    return known;
  }

  private async make(entry: HistoryEntry, layers: readonly LayerRecord[]): Promise<Image> {
    const base = this.image;
    const { id, config } = makeConfig({
      defaults: this.config,
      diffIds: layers.map(({ diffId }) => diffId),
      history: [...(base?.config.history ?? []), entry],
      platform: base === undefined ? this.platform : imagePlatform(base),
      ...(this.author === '' ? {} : { author: this.author }),
      ...(entry.created === undefined ? {} : { created: entry.created }),
    });
    await this.store.content.writeBlob(id, Buffer.from(config));
    return this.store.register({
      id,
      config,
      references: [],
      manifests: [],
      layers,
      cacheOnly: this.cacheOnly,
      ...(base === undefined ? {} : { parent: base.id }),
      events: () => [],
    });
  }

  /** Lets go of the images it stood on. */
  async release(): Promise<void> {
    for (const release of this.releases.splice(0)) await release();
  }
}
