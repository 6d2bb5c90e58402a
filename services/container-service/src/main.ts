/** container-service, wired: records, adapters, domain, gRPC. */

import { ContainersService, ExecsService } from '@flotilla/contracts/flotilla/container/v1/containers';
import { ImagesService, SnapshotsService } from '@flotilla/contracts/flotilla/image/v1/images';
import { SandboxesService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { openRecords } from '@flotilla/records';
import { changeMarkBeside, readChangeMark } from '@flotilla/records/changeMark';
import { type RunningService, runAsProcess, serviceCalls, startService } from '@flotilla/service-kit';
import { TicketServer } from '@flotilla/streams';
import { mount, mountFlags } from '@flotilla/syscalls';
import { Apparmor } from './adapters/apparmor.ts';
import { AttachSocket } from './adapters/attachSocket.ts';
import { spawnMonitor, startExec } from './adapters/conmon.ts';
import { reopenLog, resizeTerminal } from './adapters/control.ts';
import { DiscoveredOwnership } from './adapters/discoveredOwnership.ts';
import { clearOverlay, mountOverlay, mountsBelow, unmountAll, unmountOverlay } from './adapters/overlay.ts';
import { Prober } from './adapters/probe.ts';
import { Runtimes } from './adapters/runtimeCommands.ts';
import { containerHandlers } from './api/containers.ts';
import { execHandlers } from './api/execs.ts';
import { Archives } from './archives.ts';
import { Attacher } from './attach.ts';
import { Cgroups } from './cgroups/index.ts';
import { settingsSchema } from './config.ts';
import type { ContainerRecord } from './container.ts';
import { ContainerLocks } from './containerLocks.ts';
import { ContainerLogs } from './containerLogs.ts';
import { ContainerStats } from './containerStats.ts';
import { Creator } from './create.ts';
import { Drafts } from './drafts.ts';
import { Duties } from './duties.ts';
import { Execs } from './exec.ts';
import { ExecCarriers } from './execCarriers.ts';
import { ExecCollector } from './execCollector.ts';
import { Exits } from './exits.ts';
import { HealthMonitor } from './healthMonitor.ts';
import { ImageNames } from './imageNames.ts';
import { engineInfo } from './info.ts';
import { ContainerLifecycle } from './lifecycle.ts';
import { LogClaims } from './logClaims.ts';
import { LogPins, LogRotator, type LogWriter, logLimits } from './logs/index.ts';
import { LogUsers } from './logUsers.ts';
import type { Monitor } from './monitor.ts';
import type { Neighbours } from './neighbours.ts';
import { Paths } from './paths.ts';
import { bootId, isAlive, signalProcess } from './processes.ts';
import { Queries } from './queries.ts';
import { Reconciler } from './reconcile.ts';
import { reloadEvent } from './reloadEvent.ts';
import { Remover } from './removal.ts';
import { Restarter } from './restarter.ts';
import { containerSubjects } from './rights.ts';
import { RootFilesystems } from './rootFilesystems.ts';
import { SeccompCache } from './seccompFilters.ts';
import { showLogs } from './shownLogs.ts';
import { type CreateContext, detectHost, readEngineProfile } from './spec/index.ts';
import { Starter } from './start.ts';
import { ContainerStore } from './store.ts';
import { StrayUses } from './strayUses.ts';
import { Teardown } from './teardown.ts';
import { ContainerChanges } from './waiting.ts';

const name = 'container-service';
/** What a container without a log of its own may leave on disk for its attached clients. */
const unkeptLog = { maxSizeBytes: 1024 * 1024, maxFiles: 1, compress: false };
const drainMs = 2_000;
const sigstop = 19;
const sigcont = 18;

export async function start(env: NodeJS.ProcessEnv): Promise<RunningService> {
  return await startService(name, settingsSchema, env, async (kit) => {
    const { settings, logger, lifecycle, discovery, server, workload, policy } = kit;
    const options = settings.FLOTILLA_ENGINE_OPTIONS;
    const paths = new Paths(settings.FLOTILLA_DATA_ROOT, settings.FLOTILLA_EXEC_ROOT);
    const neighbours: Neighbours = {
      images: serviceCalls(ImagesService, 'image-service', discovery),
      snapshots: serviceCalls(SnapshotsService, 'image-service', discovery),
      sandboxes: serviceCalls(SandboxesService, 'network-volume', discovery),
      volumes: serviceCalls(VolumesService, 'network-volume', discovery),
    };
    const runtimes = await Runtimes.detect(paths, options.runtimes, options.defaultRuntime);
    const cgroups = Cgroups.detect(options.cgroupParent);
    const host = detectHost(cgroups.hierarchy);
    const context: CreateContext = {
      options,
      host,
      runtimes: runtimes.names(),
      defaultRuntime: runtimes.defaultName,
      dataRoot: settings.FLOTILLA_DATA_ROOT,
    };
    const boot = bootId();
    const place = async (pid: number): Promise<void> => {
      if (settings.FLOTILLA_MONITOR_CGROUP !== '') await cgroups.group(settings.FLOTILLA_MONITOR_CGROUP).join(pid);
    };
    const monitor: Monitor = {
      spawnMonitor: (options) => spawnMonitor(options, place),
      startExec: (options, connect) => startExec(options, connect, place),
      connect: AttachSocket.connect,
      connectKept: (bundle, monitorPid) => AttachSocket.connectKept(bundle, monitorPid, place),
      resize: resizeTerminal,
    };
    const ownership = new DiscoveredOwnership(discovery, name, settings.FLOTILLA_INSTANCE);

    const store = new ContainerStore(
      await openRecords(name, kit, [paths.containers]),
      new ContainerLocks((id) => paths.containerDirectory(id)),
    );
    const changes = new ContainerChanges(store);
    const tickets = new TicketServer({ address: settings.FLOTILLA_STREAM_ADDRESS, logger });
    const roots = new RootFilesystems(
      { mount: mountOverlay, unmount: unmountOverlay, clear: clearOverlay },
      (id) => store.containers.get(id)?.state.run !== undefined,
    );
    const users = new LogUsers();
    const pins = new LogPins();
    const claims = new LogClaims({ paths, users, pins });
    const rotator = new LogRotator(logger);

    const teardown = new Teardown({
      logger,
      paths,
      neighbours,
      roots,
      runtimes,
      groupAt: (path) => cgroups.group(path),
      groupOf: ({ id, hostConfig }) => cgroups.group(cgroups.pathFor(id, hostConfig.CgroupParent)),
      unmountBelow: (directory) => mountsBelow(directory).forEach(unmountAll),
    });
    const remover = new Remover({ logger, store, changes, teardown, claims });
    const starter = new Starter({
      logger,
      paths,
      store,
      neighbours,
      roots,
      teardown,
      runtimes,
      host,
      bootId: boot,
      rootIsOwn: settings.FLOTILLA_ROOT_IS_OWN,
      defaults: {
        ulimits: options.defaultUlimits,
        init: options.init,
        noNewPrivileges: options.noNewPrivileges,
        seccomp: readEngineProfile(options.seccompProfile),
      },
      cgroupPath: (id, parent) => cgroups.pathFor(id, parent),
      mountShm: (path, sizeBytes) =>
        mount('shm', path, 'tmpfs', mountFlags.noSuid | mountFlags.noDev | mountFlags.noExec, `mode=1777,size=${sizeBytes}`),
      monitor,
      apparmor: new Apparmor(),
      seccomp: new SeccompCache(paths.seccomp),
    });
    const follow = (container: ContainerRecord): void => {
      const { id, hostConfig } = container;
      const limits = hostConfig.LogConfig?.Type === 'none' ? unkeptLog : logLimits(hostConfig.LogConfig ?? {});
      const readElsewhere = () => claims.attachedElsewhere(id);
      rotator.add(id, {
        path: paths.log(id),
        ...limits,
        reopen: () => reopenLog(paths.bundle(id)),
        pins,
        readElsewhere,
        ...writerOf(container),
      });
    };
    const restarter = new Restarter({ logger, store, starter });
    const exits = new Exits({
      logger,
      paths,
      store,
      teardown,
      remover,
      bootId: boot,
      wasOutOfMemory: (run) => {
        const group = cgroups.group(run.cgroup);
        return group.oomKills() > 0 || group.outOfMemory();
      },
    });
    const freezerOf = (run: { cgroup: string }) => cgroups.group(run.cgroup);
    const containers = new ContainerLifecycle({
      store,
      changes,
      starter,
      exits,
      restarter,
      remover,
      neighbours,
      freezerOf,
    });
    const execs = new Execs({ logger, paths, store, tickets, runtimes, host, monitor, carriers: new ExecCarriers(paths) });
    const imageNames = new ImageNames({
      images: neighbours.images,
      changeMark: () => {
        const address = discovery.instances('image-service').find(({ grpcAddress }) => grpcAddress.startsWith('unix:'))?.grpcAddress;
        return address === undefined ? undefined : readChangeMark(changeMarkBeside(address));
      },
    });
    const queries = new Queries({
      store,
      neighbours,
      imageNames,
      runningExecs: (id) => execs.runningIn(id),
      shownLog: showLogs(paths),
      policy,
    });
    const stats = new ContainerStats({ store, group: (path) => cgroups.group(path), host });
    const prober = new Prober({ paths, runtimes, host });
    const health = new HealthMonitor({
      logger,
      store,
      probe: (container, command, signal, started) => prober.probe(container, command, signal, started),
      restart: (id) => containers.restart(id, '', undefined),
      owns: (id) => ownership.isMine(id),
    });
    const archives = new Archives({ paths, tickets, roots, store });
    const processesOf = (run: { cgroup: string }): number[] => cgroups.group(run.cgroup).processes();

    server.guard(containerSubjects(store));
    let retained: Promise<void> = Promise.resolve();
    server.add(
      ContainersService,
      containerHandlers({
        store,
        resizer: { store, paths, monitor },
        changes,
        creator: new Creator({ logger, paths, store, neighbours, roots, context, mayCreate: () => retained }),
        lifecycle: containers,
        queries,
        attacher: new Attacher({ logger, paths, store, changes, tickets, pins, claims, monitor }),
        logs: new ContainerLogs({ paths, store, changes, tickets, claims }),
        archives,
        stats,
        connector: { store, neighbours },
        committer: { store, neighbours, freezerOf },
        updater: { store, context, limit: (run, resources) => cgroups.group(run.cgroup).update(resources) },
        processesOf,
        info: () => engineInfo(host, runtimes.all(), runtimes.defaultName, options),
        reloaded: () =>
          reloadEvent({
            engineId: settings.FLOTILLA_ENGINE_ID,
            options,
            runtimes: runtimes.all(),
            defaultRuntime: runtimes.defaultName,
            cgroupVersion: host.cgroupVersion,
          }),
        policy,
      }),
      ['wait', 'stats'],
    );
    server.add(ExecsService, execHandlers(store, execs));

    const reconciler = new Reconciler({
      logger,
      paths,
      bootId: boot,
      isAlone: () => ownership.isAlone(),
      store,
      neighbours,
      teardown,
      starter,
      exits,
      execs,
      remover,
      wake: async ({ state }) => {
        if (state.run === undefined) return;
        const group = cgroups.group(state.run.cgroup);
        await (state.status === 'paused' ? group.freeze() : group.thaw());
      },
      startAgain: (id) => containers.start(id),
    });
    archives.removeAbandoned();
    claims.adopt();
    await reconciler.local();
    const duties = new Duties({
      store,
      ownership,
      runs: { take: follow, drop: (id) => rotator.remove(id) },
      restarts: restarter,
    });
    duties.start();
    await tickets.listen();
    lifecycle.onStop('tickets', () => tickets.close(drainMs));
    workload.addStreams(() => tickets.active);
    const moveStreams = (): void => {
      claims.stop();
      tickets.move();
    };
    lifecycle.onDrain({ name: 'streams', move: moveStreams, isBusy: () => tickets.isBusy });
    lifecycle.onStop('claims', () => claims.stop());
    // It stays while a monitor is in it.
    if (settings.FLOTILLA_MONITOR_CGROUP !== '')
      lifecycle.onStop('monitors', () => void cgroups.group(settings.FLOTILLA_MONITOR_CGROUP).remove());
    exits.start();
    lifecycle.onStop('exits', () => exits.stop());
    lifecycle.onStop('restarter', () => restarter.stop());
    lifecycle.onStop('rotator', () => rotator.stop());
    lifecycle.onStop('stats', () => stats.stop());
    health.start();
    ownership.onChange(() => health.recheck());
    lifecycle.onStop('health', () => health.stop());
    ownership.onEnded(() => execs.followAbandoned());
    const collector = new ExecCollector({ store, ownership, logger });
    collector.start();
    lifecycle.onStop('exec collector', () => collector.stop());
    const strayUses = new StrayUses({
      store,
      drafts: new Drafts(paths),
      volumes: neighbours.volumes,
      endAbandonedDrafts: () => reconciler.endAbandonedDrafts(),
      logger,
    });
    strayUses.start();
    lifecycle.onStop('stray uses', () => strayUses.stop());
    retained = reconciler.retain();
    void reconciler.remote();
  });
}

/** conmon as what can be made to wait: it stops with its next read, and the container with its next write. */
function writerOf({ state: { run } }: ContainerRecord): { writer?: LogWriter } {
  if (run === undefined) return {};
  const signal = (number: number): void => void signalProcess(run.monitorPid, run.monitorStart, number);
  return { writer: { pause: () => signal(sigstop), resume: () => signal(sigcont), alive: () => isAlive(run.pid, run.pidStart) } };
}

if (import.meta.main) await runAsProcess(start);
