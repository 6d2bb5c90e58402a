/** Reading containers: list, inspect, and what they take on disk. Answers come from memory; sizes, and names of images that may have moved, ask image-service. */
import type { ListedAge } from '@flotilla/contracts/flotilla/container/v1/containers';
import { isNotFound } from '@flotilla/errors';
import { ownedBy, type PolicySource } from '@flotilla/service-kit/rights';
import { type ContainerRecord, ownLabelsOf } from './container.ts';
import type { ImageNames } from './imageNames.ts';
import { inspectDocument } from './inspect.ts';
import { linkTargets, shownLinks } from './links.ts';
import { type ListRequest, selectContainers } from './list.ts';
import { listSegments } from './logs/index.ts';
import { findContainer } from './lookup.ts';
import type { Neighbours } from './neighbours.ts';
import type { ContainerStore } from './store.ts';
import { Summaries, type SummarySize } from './summary.ts';

export interface QueriesOptions {
  readonly store: ContainerStore;
  readonly neighbours: Pick<Neighbours, 'images' | 'snapshots'>;
  readonly imageNames: ImageNames;
  readonly runningExecs: (containerId: string) => string[];
  /** What is told of the path of a log. @see showLogs */
  readonly shownLog: (logPath: string) => string;
  readonly policy: PolicySource | undefined;
}

export class Queries {
  private readonly options: QueriesOptions;
  private readonly summaries = new Summaries();

  constructor(options: QueriesOptions) {
    this.options = options;
  }

  /** A JSON array of ContainerSummary, and where in its bytes ages stand. @see Engine API v1.50 ContainerList */
  async list(
    request: ListRequest & { readonly size: boolean; readonly logSize?: boolean },
  ): Promise<{ readonly json: Buffer; readonly ages: ListedAge[] }> {
    const { store, policy } = this.options;
    await store.fresh();
    const isOwn = ownedBy(policy);
    const seen = [...store.containers.values()].filter((each) => isOwn(each.name, ownLabelsOf(each)));
    const containers = await selectContainers(seen, request, {
      find: (reference) => findContainer(store, reference),
      ancestors: (reference) => this.ancestors(reference),
    });
    const links = this.linkNames();
    const imageOf = await this.options.imageNames.shown(containers);
    const shownOf = (container: ContainerRecord) => ({ image: imageOf(container), links: links.get(container.id) ?? [] });
    const summaries = request.size
      ? await Promise.all(
          containers.map(async (each) => {
            const { rw, rootFs } = await this.size(each.id);
            const size = { rw: rw + (request.logSize === true ? logBytes(each.logPath) : 0), rootFs };
            return this.summaries.text(each, shownOf(each), size);
          }),
        )
      : containers.map((each) => this.summaries.text(each, shownOf(each)));
    const ages: ListedAge[] = [];
    // Before each summary stands a bracket or a comma.
    let offset = 1;
    for (const { text, age } of summaries) {
      if (age !== undefined) ages.push({ ...age, offset: offset + age.offset });
      offset += Buffer.byteLength(text) + 1;
    }
    return { json: Buffer.from(`[${summaries.map(({ text }) => text).join(',')}]`), ages };
  }

  /** @see Engine API v1.50 ContainerInspect */
  async inspect(reference: string, size: boolean): Promise<string> {
    const { store } = this.options;
    await store.fresh();
    const container = findContainer(store, reference);
    const sizes = size ? await this.size(container.id) : undefined;
    return JSON.stringify(
      inspectDocument(container, {
        links: shownLinks(
          container.name,
          linkTargets(container, (id) => store.containers.get(id)),
        ),
        execIds: this.options.runningExecs(container.id),
        logPath: this.options.shownLog(container.logPath),
        ...(sizes === undefined ? {} : { size: sizes }),
      }),
    );
  }

  async size(id: string): Promise<SummarySize> {
    try {
      const { sizeRw, sizeRootFs } = await this.options.neighbours.snapshots.usage({ key: id }, { idempotent: true });
      return { rw: Number(sizeRw), rootFs: Number(sizeRw + sizeRootFs) };
    } catch (error) {
      if (isNotFound(error)) return { rw: 0, rootFs: 0 };
      throw error;
    }
  }

  private async ancestors(reference: string): Promise<string[] | undefined> {
    try {
      const wish = { image: reference, platform: '', idOnly: true, withDescendants: true };
      const { id, descendantIds } = await this.options.neighbours.images.resolve(wish, { idempotent: true });
      return [id, ...descendantIds];
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** A container that others link to has a second name: `/parent/alias`. */
  private linkNames(): Map<string, string[]> {
    const names = new Map<string, string[]>();
    for (const parent of this.options.store.containers.values()) {
      for (const { container, alias } of linkTargets(parent, (id) => this.options.store.containers.get(id))) {
        names.set(container.id, [...(names.get(container.id) ?? []), `/${parent.name}/${alias}`]);
      }
    }
    return names;
  }
}

/** Bytes of a container's log, with what has been rotated away. */
function logBytes(logPath: string): number {
  return logPath === '' ? 0 : listSegments(logPath).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
