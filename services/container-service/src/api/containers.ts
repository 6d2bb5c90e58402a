/** The gRPC service Containers: each method decodes, calls one domain function, and encodes. */
import type { ContainersService } from '@flotilla/contracts/flotilla/container/v1/containers';
import type { DomainEvent } from '@flotilla/records';
import type { Handlers } from '@flotilla/service-kit';
import { ownedBy, type PolicySource } from '@flotilla/service-kit/rights';
import type { Archives } from '../archives.ts';
import type { Attacher } from '../attach.ts';
import { type CommitterOptions, commitContainer } from '../commit.ts';
import { ownLabelsOf, type Run } from '../container.ts';
import type { ContainerLogs } from '../containerLogs.ts';
import type { ContainerStats } from '../containerStats.ts';
import type { Creator } from '../create.ts';
import { countContainers } from '../info.ts';
import type { ContainerLifecycle } from '../lifecycle.ts';
import { findContainer } from '../lookup.ts';
import { type ConnectorOptions, connectNetwork, disconnectNetwork } from '../networks.ts';
import { pruneContainers } from '../prune.ts';
import type { Queries } from '../queries.ts';
import { type ResizerOptions, resizeContainer } from '../resize.ts';
import { type ContainerStore, containerEvent } from '../store.ts';
import { topOf } from '../top.ts';
import { type UpdaterOptions, updateContainer } from '../update.ts';
import { type ContainerChanges, waitFor } from '../waiting.ts';
import { filtersFromWire, jsonBytes, waitConditionFromWire } from './convert.ts';

export interface ContainerHandlerOptions {
  readonly store: ContainerStore;
  readonly resizer: ResizerOptions;
  readonly changes: ContainerChanges;
  readonly creator: Creator;
  readonly lifecycle: ContainerLifecycle;
  readonly queries: Queries;
  readonly attacher: Attacher;
  readonly logs: ContainerLogs;
  readonly archives: Archives;
  readonly stats: ContainerStats;
  readonly connector: ConnectorOptions;
  readonly committer: CommitterOptions;
  readonly updater: UpdaterOptions;
  readonly processesOf: (run: Run) => number[];
  readonly info: () => unknown;
  readonly reloaded: () => DomainEvent;
  readonly policy?: PolicySource | undefined;
}

export function containerHandlers(options: ContainerHandlerOptions): Handlers<typeof ContainersService> {
  const { store, lifecycle, queries, archives } = options;
  const find = async (reference: string) => {
    await store.fresh();
    return findContainer(store, reference);
  };
  return {
    create: async (request) => {
      await store.fresh();
      return await options.creator.create(request);
    },
    start: async ({ container, askedAtNano }) => {
      await store.fresh();
      await lifecycle.start(container, askedAtNano);
      return {};
    },
    stop: async ({ container, signal, timeoutSeconds }) => {
      await store.fresh();
      await lifecycle.stop(container, signal, timeoutSeconds);
      return {};
    },
    kill: async ({ container, signal }) => {
      await store.fresh();
      await lifecycle.kill(container, signal);
      return {};
    },
    restart: async ({ container, signal, timeoutSeconds }) => {
      await store.fresh();
      await lifecycle.restart(container, signal, timeoutSeconds);
      return {};
    },
    pause: async ({ container }) => {
      await store.fresh();
      await lifecycle.pause(container);
      return {};
    },
    unpause: async ({ container }) => {
      await store.fresh();
      await lifecycle.unpause(container);
      return {};
    },
    rename: async ({ container, newName }) => {
      await store.fresh();
      await lifecycle.rename(container, newName);
      return {};
    },
    update: async ({ container, updateJson }) => {
      await store.fresh();
      return { warnings: await updateContainer(options.updater, container, updateJson) };
    },
    remove: async ({ container, force, removeVolumes, removeLink }) => {
      await store.fresh();
      if (removeLink) await lifecycle.removeLink(container);
      else await lifecycle.remove(container, { force, removeVolumes });
      return {};
    },
    wait: async function* ({ container, condition }, call) {
      const found = await find(container);
      const waiting = waitFor(options.changes, found, waitConditionFromWire(condition), (id) => store.trash.get(id)?.exitCode, call.signal);
      yield {};
      const exitCode = await waiting;
      if (exitCode !== undefined) yield { result: { exitCode, error: '' } };
    },
    list: async ({ all, limit, size, logSize = false, filters }) => {
      const { json, ages } = await queries.list({ all, limit, size, logSize, filters: filtersFromWire(filters) });
      return { containersJson: json, ages };
    },
    inspect: async ({ container, size }) => ({ containerJson: Buffer.from(await queries.inspect(container, size)) }),
    counts: async () => {
      await store.fresh();
      return { ...countContainers(store.containers.values()), infoJson: jsonBytes(options.info()) };
    },
    reloaded: async () => {
      await store.commit({ events: [options.reloaded()] });
      return {};
    },
    prune: async ({ filters }) => {
      await store.fresh();
      const isOwn = ownedBy(options.policy);
      return await pruneContainers(
        {
          containers: () => [...store.containers.values()].filter((each) => isOwn(each.name, ownLabelsOf(each))),
          remove: (id) => lifecycle.remove(id, { force: false, removeVolumes: false }),
          sizeOf: async (id) => BigInt((await queries.size(id)).rw),
          tell: async (event) => void (await store.commit({ events: [event] })),
        },
        filtersFromWire(filters),
        Date.now(),
      );
    },
    top: async ({ container, psArgs }) => {
      const listed = await find(container);
      const { titles, processes } = await topOf(listed, psArgs, options.processesOf);
      await store.commit({ events: [containerEvent(listed, 'top')] });
      return { titles, processes: processes.map((fields) => ({ fields })) };
    },
    stats: async function* ({ container, stream, oneShot }, call) {
      for await (const sample of options.stats.open(await find(container), { stream, oneShot }, call.signal))
        yield { statsJson: jsonBytes(sample) };
    },
    changes: async ({ container }) => ({ changes: await archives.changes(await find(container)) }),
    resize: async ({ container, height, width }) => {
      await store.fresh();
      await resizeContainer(options.resizer, container, height, width);
      return {};
    },
    attach: async (request) => {
      await store.fresh();
      return await options.attacher.attach(request);
    },
    logs: async (request) => {
      await store.fresh();
      return options.logs.open({ ...request, tail: request.tail === undefined ? undefined : Number(request.tail) });
    },
    export: async ({ container }) => ({ ticket: await archives.export(await find(container)) }),
    statArchive: async ({ container, path }) => ({ pathStatJson: jsonBytes(await archives.stat(await find(container), container, path)) }),
    getArchive: async ({ container, path }) => {
      const { ticket, stat } = await archives.get(await find(container), container, path);
      return { ticket, pathStatJson: jsonBytes(stat) };
    },
    putArchive: async ({ container, path, noOverwriteDirNonDir, copyUidGid }) => ({
      ticket: await archives.put(await find(container), container, path, { noOverwriteDirNonDir, copyUidGid }),
    }),
    connectNetwork: async ({ network, container, endpointJson }) => {
      await store.fresh();
      await connectNetwork(options.connector, network, container, endpointJson);
      return {};
    },
    disconnectNetwork: async ({ network, container, force }) => {
      await store.fresh();
      await disconnectNetwork(options.connector, network, container, force);
      return {};
    },
    commit: async (request) => {
      await store.fresh();
      return { id: await commitContainer(options.committer, request) };
    },
  };
}
