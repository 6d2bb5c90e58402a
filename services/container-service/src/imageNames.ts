/** What the names that containers were made from mean now: one that has moved to another image, or is gone, names a container's image no more. */
import { isNotFound } from '@flotilla/errors';
import { newRequestId, runWithRequest } from '@flotilla/service-kit';
import type { ContainerRecord } from './container.ts';
import type { Neighbours } from './neighbours.ts';

export interface ImageNamesOptions {
  readonly images: Pick<Neighbours['images'], 'resolve'>;
  /** Different after every change of image-service; undefined when there is none: a list does not wait for it, and names stand for what they stood for. */
  readonly changeMark: () => string | undefined;
}

/** A list does not wait longer for image-service. */
const deadlineMs = 2_000;

export class ImageNames {
  private readonly options: ImageNamesOptions;
  private mark: string | undefined;
  /** The id of the image of each name, as of the mark; undefined: there is none. */
  private ids = new Map<string, Promise<string | undefined>>();

  constructor(options: ImageNamesOptions) {
    this.options = options;
  }

  /** The name to show of each container's image: the one that it was made from, or the image's id. */
  async shown(containers: readonly ContainerRecord[]): Promise<(container: ContainerRecord) => string> {
    const mark = this.options.changeMark();
    if (mark === undefined) return (container) => container.image.reference;
    if (mark !== this.mark) this.ids = new Map();
    this.mark = mark;
    const moved = new Set<ContainerRecord>();
    await Promise.all(
      containers.map(async (container) => {
        const { id, reference } = container.image;
        if (reference !== id && (await this.idOf(reference, id)) !== id) moved.add(container);
      }),
    );
    return (container) => (moved.has(container) ? container.image.id : container.image.reference);
  }

  /** @param otherwise - what to take it for while image-service does not answer. */
  private async idOf(reference: string, otherwise: string): Promise<string | undefined> {
    const { ids } = this;
    const known = ids.get(reference) ?? this.resolve(reference);
    ids.set(reference, known);
    try {
      return await known;
    } catch {
      ids.delete(reference);
      return otherwise;
    }
  }

  /** In nobody's name: what one caller's role lets him see is not the answer for all. */
  private async resolve(reference: string): Promise<string | undefined> {
    try {
      const ask = () =>
        this.options.images.resolve({ image: reference, platform: '', idOnly: true, withDescendants: false }, { deadlineMs });
      return (await runWithRequest({ requestId: newRequestId() }, ask)).id;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }
}
