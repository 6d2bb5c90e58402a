/** The wiring of image-service. */
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { BuildKitService } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { BuildsService } from '@flotilla/contracts/flotilla/image/v1/builds';
import { DiskService } from '@flotilla/contracts/flotilla/image/v1/disk';
import { ImagesService, SnapshotsService } from '@flotilla/contracts/flotilla/image/v1/images';
import { openRecords } from '@flotilla/records';
import { type RunningService, runAsProcess, startService } from '@flotilla/service-kit';
import { TicketServer } from '@flotilla/streams';
import { takeConnection } from '@flotilla/syscalls';
import { stepContainers } from './adapters/buildContainers.ts';
import { containersOfImages } from './adapters/containers.ts';
import { hostGateway } from './adapters/networks.ts';
import { withRegistry } from './adapters/registryProxy.ts';
import { buildkitHandlers } from './api/buildkit.ts';
import { buildHandlers } from './api/builds.ts';
import { diskHandlers } from './api/disk.ts';
import { imageHandlers } from './api/images.ts';
import { snapshotHandlers } from './api/snapshots.ts';
import { Builder } from './build/builder.ts';
import { BuildCache } from './build/cache.ts';
import { CacheUse } from './build/cacheUse.ts';
import { clearContainers, clearDirectories, instanceOf } from './build/leftovers.ts';
import { StepLayers } from './build/stepLayers.ts';
import { ContextCopies } from './buildkit/contextCopies.ts';
import { buildkitParts } from './buildkit/parts.ts';
import { workerList } from './buildkit/workers.ts';
import { Committer } from './commit.ts';
import { settingsSchema } from './config.ts';
import { ContentStore } from './contentStore.ts';
import { checkAfterPowerCut } from './disk/afterPowerCut.ts';
import { ImageGc } from './imageGc.ts';
import { ImageRights } from './imageRights.ts';
import { ImageStore } from './imageStore.ts';
import { Importer } from './import.ts';
import { LayerFetcher } from './layerFetcher.ts';
import { TransferWorkers } from './layers/transferWorkers.ts';
import { Loader } from './load.ts';
import { NewLayers } from './newImage.ts';
import { Pruner } from './prune.ts';
import { Puller } from './pull.ts';
import { Pusher } from './push.ts';
import { reconcile } from './reconcile.ts';
import { Remover } from './remove.ts';
import { Snapshots } from './snapshots.ts';

const reconcileEveryMs = 60 * 60 * 1000;
const imageGcEveryMs = 5_000;
/** Long enough to hear of a replica that is there. */
const introductionMs = 100;
const streamDrainMs = 4_000;

export async function start(env: NodeJS.ProcessEnv): Promise<RunningService> {
  return startService('image-service', settingsSchema, env, async (kit) => {
    const { settings, logger, lifecycle, discovery, server, workload, policy } = kit;
    // Roots of layers and containers are made with their modes as they are meant, whatever this was started with.
    process.umask(0o022);
    const options = settings.FLOTILLA_ENGINE_OPTIONS;
    const maxLayerBytes = settings.FLOTILLA_MAX_LAYER_BYTES;
    const content = new ContentStore(join(settings.FLOTILLA_DATA_ROOT, 'image-service'), (error) =>
      logger.warn({ error }, 'not deleted, or not written to the disk, yet'),
    );
    lifecycle.onStop('what the disk has not yet', () => content.unsynced.close());
    const records = await openRecords('image-service', kit, [join(content.root, 'layers'), join(content.root, 'snapshots')]);
    const store = new ImageStore({ records, content, rights: new ImageRights(policy) });
    const isAlone = (): boolean => discovery.present('image-service').every((beat) => beat.instance === settings.FLOTILLA_INSTANCE);
    await pause(introductionMs);
    const workers = new TransferWorkers();
    lifecycle.onStop('layer workers', () => workers.stop());
    await checkAfterPowerCut({ store, workers, maxLayerBytes, logger, signal: new AbortController().signal });
    await reconcile({ store, logger, alone: isAlone() });
    const timer = setInterval(() => {
      reconcile({ store, logger, alone: false }).catch((error: unknown) => logger.error({ error }, 'reconcile failed'));
    }, reconcileEveryMs).unref();
    lifecycle.onStop('reconcile', () => clearInterval(timer));

    const layers = new LayerFetcher({ content, workers, maxConcurrent: options.maxConcurrentDownloads, maxLayerBytes });
    const registry = withRegistry(discovery, settings.FLOTILLA_REGISTRY_ADDRESS);
    const remover = new Remover({ store, containers: containersOfImages(discovery) });
    if (options.imageGc !== undefined) {
      const alone = <T>(work: () => Promise<T>): Promise<T> => records.withLease('image-gc', work, { waitMs: 0 });
      const gc = new ImageGc({ store, alone, remover, thresholds: options.imageGc, logger });
      const looking = setInterval(() => {
        gc.collect().catch((error: unknown) => logger.error({ error }, 'removing unused images failed'));
      }, imageGcEveryMs).unref();
      lifecycle.onStop('image thresholds', () => clearInterval(looking));
    }
    const tickets = new TicketServer({ address: settings.FLOTILLA_STREAM_ADDRESS, logger, take: takeConnection });
    await tickets.listen();
    lifecycle.onStop('streams', () => tickets.close(streamDrainMs));
    workload.addStreams(() => tickets.active);
    lifecycle.onDrain({ name: 'streams', move: () => tickets.move(), isBusy: () => tickets.isBusy });
    const newLayers = new NewLayers({ store, workers, maxLayerBytes });
    const puller = new Puller({ store, layers, registry });
    server.add(
      ImagesService,
      imageHandlers({
        store,
        puller,
        pusher: new Pusher({ store, registry, workers, maxConcurrent: options.maxConcurrentUploads }),
        loader: new Loader({ store, workers, maxLayerBytes }),
        importer: new Importer({ store, newLayers, maxLayerBytes }),
        committer: new Committer({ store, newLayers }),
        remover,
        pruner: new Pruner({ store, remover }),
        tickets,
        logger,
      }),
    );
    const isAlive = (instance: string): boolean => discovery.present('image-service').some((beat) => beat.instance === instance);
    content.emptyLayer();
    const builds = join(content.root, 'builds');
    await clearDirectories(builds, isAlive);
    const cache = new BuildCache({ records, store, root: join(content.root, 'build-cache') });
    const containers = stepContainers(discovery);
    const builder = new Builder({
      store,
      puller,
      cache,
      layers: new StepLayers({ store, newLayers }),
      containers,
      directory: builds,
      instance: settings.FLOTILLA_INSTANCE,
    });
    const copies = new ContextCopies(join(content.root, 'build-contexts'), settings.FLOTILLA_INSTANCE);
    await copies.clear(isAlive);
    const cacheUse = new CacheUse(store, cache, copies);
    server.add(BuildsService, buildHandlers({ builder, cacheUse, store, tickets, logger }));
    const worker = workerList(settings.FLOTILLA_ENGINE_ID, hostGateway(settings.FLOTILLA_ENGINE_OPTIONS.hostGatewayIps, discovery));
    const buildkit = buildkitParts({ builder, store, puller, copies, cacheUse, workers: worker, logger });
    lifecycle.onStop('builds that have ended', () => buildkit.connection.jobs.settled());
    server.add(BuildKitService, buildkitHandlers({ ...buildkit, tickets, policy }));
    const stopping = new AbortController();
    lifecycle.onStop('leftovers of builds', () => stopping.abort());
    const isDead = (name: string): boolean =>
      !builder.isRunning(name) && (instanceOf(name) === settings.FLOTILLA_INSTANCE || !isAlive(instanceOf(name)));
    void clearContainers(containers, isDead, logger, stopping.signal);
    server.add(DiskService, diskHandlers({ store, workers, maxLayerBytes }));
    server.add(SnapshotsService, snapshotHandlers(store, new Snapshots(store)));
  });
}

if (import.meta.main) await runAsProcess(start);
