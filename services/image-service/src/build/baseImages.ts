/** Images that stages stand on or copy from: here already, or pulled. */
import { isNotFound } from '@flotilla/errors';
import { type Platform, parseReference, withDefaultTag } from '@flotilla/oci';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import { platformMismatch } from '../inspect.ts';
import type { Puller } from '../pull.ts';
import type { Credentials } from './credentials.ts';
import type { StageOutput } from './output.ts';

export interface BaseImagesOptions {
  readonly store: ImageStore;
  readonly puller: Puller;
  /** Ask registries also for what is here. */
  readonly pull: boolean;
  readonly credentials: Credentials;
}

export class BaseImages {
  private readonly options: BaseImagesOptions;
  private readonly found = new Map<string, Promise<Image>>();

  constructor(options: BaseImagesOptions) {
    this.options = options;
  }

  /** @param platform - undefined when nobody asked for one: an image that is here is taken whatever it is for. @throws NotFound in dockerd's words. */
  get(name: string, platform: Platform | undefined, host: Platform, output: StageOutput, signal: AbortSignal): Promise<Image> {
    const key = `${name} ${JSON.stringify(platform)}`;
    const known = this.found.get(key) ?? this.resolve(name, platform, host, output, signal);
    this.found.set(key, known);
    return known;
  }

  private async resolve(
    name: string,
    platform: Platform | undefined,
    host: Platform,
    output: StageOutput,
    signal: AbortSignal,
  ): Promise<Image> {
    const { store, pull } = this.options;
    await store.fresh();
    if (!pull) {
      const here = this.local(name);
      if (here !== undefined && (platform === undefined || platformMismatch(here, platform, name) === undefined)) return here;
    }
    const reference = withDefaultTag(parseReference(name));
    return this.options.puller.pull(
      {
        reference,
        platform: platform ?? host,
        platformAsked: platform !== undefined,
        registryAuth: await this.options.credentials(reference.domain),
      },
      (line) => output.progress(line),
      signal,
    );
  }

  private local(name: string): Image | undefined {
    try {
      return this.options.store.find(name);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
}
