/**
 * Starting a container: root file system, network, volumes, bundle, then conmon and the runtime, then the record and the event. Whatever fails, what
 * was done before is undone. A start that was cut off is known by its bundle: if the container came up it runs, else what there is of it is undone.
 */
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Health, HostConfig, NetworkSettings } from '@flotilla/engine-api';
import { Conflict, errorMessage, type FlotillaError, isFlotillaError, NotFound, System } from '@flotilla/errors';
import type { RuntimeSpec } from '@flotilla/oci';
import type { Lease } from '@flotilla/records';
import type { Logger } from '@flotilla/service-kit';
import { formatNano, nowNano } from './clock.ts';
import { type ContainerRecord, type Run, type SandboxFiles, sharedContainer } from './container.ts';
import { initialHealth } from './health.ts';
import { mountImages } from './imageMounts.ts';
import { linkEnvironment, linkTargets } from './links.ts';
import { findContainer, findIfThere } from './lookup.ts';
import { type Monitor, RuntimeFailure } from './monitor.ts';
import { prepareMounts } from './mounts.ts';
import { fromJson, type Neighbours } from './neighbours.ts';
import type { Paths } from './paths.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import type { OciRuntime } from './runtime.ts';
import { sandboxSpec } from './sandboxSpec.ts';
import {
  apparmorProfile,
  buildRuntimeSpec,
  cpuSharesFault,
  defaultApparmorProfile,
  encodeSpec,
  type HostFacts,
  type ResolvedMount,
  type SpecDefaults,
} from './spec/index.ts';
import { checkSysctls } from './spec/sysctls.ts';
import { type BegunRun, findStartedRun, runOf, type StartedRun, writeBegunRun } from './startedRun.ts';
import { startFailure } from './startFailure.ts';
import { type ContainerStore, containerEvent } from './store.ts';
import type { Teardown } from './teardown.ts';

export interface StarterOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly neighbours: Neighbours;
  readonly roots: RootFilesystems;
  readonly teardown: Teardown;
  readonly runtimes: { get(name: string): OciRuntime | undefined; readonly defaultName: string };
  readonly host: HostFacts;
  readonly bootId: string;
  /** what the engine's options say for every container that does not say it itself. */
  readonly defaults: SpecDefaults;
  readonly cgroupPath: (id: string, parent: string | undefined) => string;
  readonly mountShm: (path: string, sizeBytes: number) => void;
  readonly monitor: Pick<Monitor, 'spawnMonitor'>;
  /** This service's root file system is not the host's. */
  readonly rootIsOwn: boolean;
  readonly apparmor: { ensureDefaultProfile(): Promise<void> };
  /** gives the runtime a compiled seccomp filter where it can take one. */
  readonly seccomp: SeccompFilters;
}

export interface SeccompFilters {
  /** Adds what makes the runtime use a filter that was compiled before. */
  reuse(spec: RuntimeSpec, runtime: OciRuntime): RuntimeSpec;
  /** Keeps the filter that the runtime has just compiled. */
  keep(spec: RuntimeSpec, runtime: OciRuntime, containerId: string): void;
}

interface Network {
  /** as the run's record has it. */
  readonly netns: string;
  /** where the runtime enters it; empty: NetworkMode says all. */
  readonly joins: string;
  readonly files: SandboxFiles;
  readonly settings: NetworkSettings | undefined;
}

interface Prepared {
  readonly spec: RuntimeSpec;
  readonly begun: BegunRun;
  /** to be called when the record tells of the run. */
  readonly recorded: () => void;
}

/** A start that failed: what the client is told, and the record as it is now. */
export class StartFailed extends Error {
  override readonly name = 'StartFailed';
  readonly failure: FlotillaError;
  readonly container: ContainerRecord;

  constructor(failure: FlotillaError, container: ContainerRecord) {
    super(failure.message, { cause: failure });
    this.failure = failure;
    this.container = container;
  }
}

export class Starter {
  private readonly options: StarterOptions;
  /** Starts under way in this instance. */
  private readonly starting = new Set<string>();

  constructor(options: StarterOptions) {
    this.options = options;
  }

  /**
   * Starts a container that does not run. The caller holds its lease and has checked its state.
   *
   * @param byPolicy - a restart policy or reconcile starts it, not a client.
   * @throws StartFailed when it does not come up; everything is as before then, but for the error in the record.
   */
  async start(container: ContainerRecord, lease: Lease, byPolicy = false): Promise<ContainerRecord> {
    const running = await this.finishCutOff(container, lease);
    if (running !== undefined) return running;
    this.starting.add(container.id);
    try {
      return await this.startAnew(container, lease, byPolicy);
    } finally {
      this.starting.delete(container.id);
    }
  }

  private async startAnew(container: ContainerRecord, lease: Lease, byPolicy: boolean): Promise<ContainerRecord> {
    const { paths, store, teardown } = this.options;
    mkdirSync(paths.bundle(container.id), { mode: 0o700 });
    try {
      const { started, recorded } = await this.run(this.withSharedName(container), byPolicy);
      const record = await this.record(container, started, lease);
      recorded();
      const { runtime, pid } = record.state.run ?? {};
      this.options.logger.debug({ containerId: container.id, runtime, pid }, 'the runtime has started it');
      return record;
    } catch (error) {
      const failure = this.explain(container, error);
      await teardown.afterFailedStart(container);
      const failed: ContainerRecord = {
        ...container,
        state: {
          ...container.state,
          status: container.state.status === 'restarting' ? 'exited' : container.state.status,
          ...failure.state,
        },
      };
      await store.save(failed, lease);
      throw new StartFailed(failure.error, failed);
    }
  }

  /** Whether a start of a container that does not run, by its record, is under way or was cut off. */
  isBegun(id: string): boolean {
    return existsSync(this.options.paths.bundle(id));
  }

  /** Whether another instance began to start it and has not come to the end, nor this one. */
  isCutOff(id: string): boolean {
    return this.isBegun(id) && !this.starting.has(id);
  }

  /**
   * Settles a start that was cut off. The caller holds the lease of the container, which does not run by its record.
   *
   * @returns the container when it has come up; undefined when there was no such start, or what there was of it is undone.
   */
  async finishCutOff(container: ContainerRecord, lease: Lease): Promise<ContainerRecord | undefined> {
    const { paths, bootId, teardown, logger } = this.options;
    if (!this.isBegun(container.id)) return undefined;
    const started = await findStartedRun(paths, container.id, bootId);
    if (started === undefined) {
      await teardown.afterFailedStart(container);
      return undefined;
    }
    logger.info({ containerId: container.id }, 'its start was cut off; it has come up');
    return await this.record(container, started, lease);
  }

  private async record(container: ContainerRecord, started: StartedRun, lease: Lease): Promise<ContainerRecord> {
    const { byPolicy, networkSettings, apparmorProfile, run } = started.begun;
    const record: ContainerRecord = {
      ...this.withSharedName(container),
      ...(networkSettings === undefined ? {} : { networkSettings }),
      files: run.files,
      ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
      stoppedByUser: false,
      restartRequested: false,
      restartCount: byPolicy ? container.restartCount : 0,
      state: {
        status: 'running',
        exitCode: 0,
        error: '',
        oomKilled: false,
        startedAt: formatNano(started.atNano),
        finishedAt: container.state.finishedAt,
        run: runOf(started),
        ...withHealth(container),
      },
    };
    return await this.options.store.save(record, lease, [containerEvent(record, 'start')]);
  }

  /** Who shares another's network stack shares its name. */
  private withSharedName(container: ContainerRecord): ContainerRecord {
    const shared = sharedContainer(container.hostConfig.NetworkMode);
    const target = shared === undefined ? undefined : findIfThere(this.options.store, shared);
    if (target === undefined) return container;
    const { Hostname = '', Domainname = '' } = target.config;
    return { ...container, config: { ...container.config, Hostname, Domainname } };
  }

  private explain(container: ContainerRecord, error: unknown): { error: FlotillaError; state: { exitCode: number; error: string } } {
    if (error instanceof RuntimeFailure) {
      const { error: told, exitCode } = startFailure(error.message, container.path);
      return { error: told, state: { exitCode, error: told.message } };
    }
    const told = isFlotillaError(error) ? error : new System(errorMessage(error), { cause: error });
    return { error: told, state: { exitCode: container.state.exitCode || 128, error: told.message } };
  }

  private async run(container: ContainerRecord, byPolicy: boolean): Promise<{ started: StartedRun; recorded: () => void }> {
    const { paths, monitor, seccomp } = this.options;
    const { config, hostConfig } = container;
    const runtime = this.runtimeOf(hostConfig);
    const logPath = paths.log(container.id);
    const logOffset = sizeOf(logPath);
    mkdirSync(paths.exits, { recursive: true });
    rmSync(paths.exit(container.id), { force: true });
    // conmon comes up while everything else is made ready.
    const waiting = monitor.spawnMonitor({
      id: container.id,
      session: container.id,
      bundle: paths.bundle(container.id),
      command: runtime.runCommand,
      ownNamespace: runtime.ownNamespace,
      logPath,
      exitDirectory: paths.exits,
      terminal: config.Tty ?? false,
      stdin: config.OpenStdin ?? false,
      leaveStdinOpen: !config.StdinOnce || (config.Tty ?? false),
    });
    try {
      const { spec, begun, recorded } = await this.prepareBundle(container, runtime, { byPolicy, logOffset });
      const monitored = await waiting.start();
      seccomp.keep(spec, runtime, container.id);
      return { started: { ...monitored, begun, atNano: nowNano() }, recorded };
    } finally {
      waiting.abandon();
    }
  }

  private async prepareBundle(
    container: ContainerRecord,
    runtime: OciRuntime,
    { byPolicy, logOffset }: { byPolicy: boolean; logOffset: number },
  ): Promise<Prepared> {
    const { paths, roots, neighbours, seccomp, bootId, rootIsOwn } = this.options;
    const apparmor = apparmorProfile(container.hostConfig, this.options.host);
    const [network, mounts, recorded] = await Promise.all([
      this.prepareNetwork(container),
      mountImages(container, roots).then(() =>
        prepareMounts(container, neighbours, { subpathTarget: (index) => paths.subpath(container.id, index), rootIsOwn }),
      ),
      roots.mountForRun(container.id, container.snapshot),
      apparmor === defaultApparmorProfile ? this.options.apparmor.ensureDefaultProfile() : undefined,
    ]);
    const sharesFault = cpuSharesFault(container.hostConfig, this.options.host.cgroupVersion);
    if (sharesFault !== undefined) throw new RuntimeFailure(`error setting cgroup config for procHooks process: ${sharesFault}`);
    const shmPath = this.prepareShm(container);
    const cgroup = this.options.cgroupPath(container.id, container.hostConfig.CgroupParent);
    const spec = seccomp.reuse(this.runtimeSpec(container, network, mounts, shmPath, cgroup), runtime);
    const { netns, files, settings } = network;
    const begun: BegunRun = {
      run: { bootId, runtime: runtime.name, cgroup, logOffset, netns, files, ...(shmPath === undefined ? {} : { shmPath }) },
      byPolicy,
      ...(settings === undefined ? {} : { networkSettings: settings }),
      ...(apparmor === undefined ? {} : { apparmorProfile: apparmor }),
    };
    writeBegunRun(paths.bundle(container.id), begun);
    // The last: a conmon whose service is killed goes on, and the runtime fails where this is not.
    writeFileSync(join(paths.bundle(container.id), 'config.json'), encodeSpec(spec));
    return { spec, begun, recorded };
  }

  private runtimeOf(hostConfig: HostConfig): OciRuntime {
    const { runtimes } = this.options;
    const name = hostConfig.Runtime || runtimes.defaultName;
    const runtime = runtimes.get(name);
    if (runtime === undefined) throw new NotFound(`unknown or invalid runtime name: ${name}`);
    return runtime;
  }

  private async prepareNetwork(container: ContainerRecord): Promise<Network> {
    const shared = sharedContainer(container.hostConfig.NetworkMode);
    if (shared !== undefined) {
      const run = this.networkRunOf(shared);
      const joins = `/proc/${run.pid}/ns/net`;
      const isHosts = run.netns === '';
      if (isHosts) checkSysctls({ ...container.hostConfig, NetworkMode: 'host' });
      return { netns: isHosts ? '' : joins, joins, files: run.files, settings: undefined };
    }
    const { store, neighbours } = this.options;
    const answer = await neighbours.sandboxes.prepare(
      { spec: sandboxSpec(container, (id) => store.containers.get(id)) },
      { deadlineMs: 60_000, idempotent: true },
    );
    return {
      netns: answer.netnsPath,
      joins: answer.netnsPath,
      files: { hostname: answer.hostnamePath, hosts: answer.hostsPath, resolvConf: answer.resolvConfPath },
      settings: fromJson<NetworkSettings>(answer.networkSettingsJson),
    };
  }

  /** The run of a container whose network is to be joined. @throws Conflict in dockerd's words when it does not run. */
  private networkRunOf(reference: string): Run {
    const target = findContainer(this.options.store, reference);
    if (target.state.run === undefined) throw new Conflict(`cannot join network of a non running container: ${target.id}`);
    return target.state.run;
  }

  /** The same for another namespace. @throws System, as dockerd has it: the request to start was right. */
  private namespaceRunOf(reference: string, namespace: 'IPC' | 'PID'): Run {
    const target = findContainer(this.options.store, reference);
    if (target.state.run === undefined) {
      throw new System(`failed to join ${namespace} namespace: container ${target.id} is not running`);
    }
    return target.state.run;
  }

  /** A /dev/shm that other containers may share lies in the bundle, not in the container's own mounts. */
  private prepareShm(container: ContainerRecord): string | undefined {
    const { IpcMode: mode, ShmSize: size } = container.hostConfig;
    const shared = sharedContainer(mode);
    if (shared !== undefined) {
      const run = this.namespaceRunOf(shared, 'IPC');
      const target = findContainer(this.options.store, shared);
      if (target.hostConfig.IpcMode !== 'shareable')
        throw new System('failed to join IPC namespace: non-shareable IPC (hint: use IpcMode:shareable for the donor container)');
      return run.shmPath;
    }
    if (mode !== 'shareable') return undefined;
    const path = this.options.paths.shm(container.id);
    mkdirSync(path);
    this.options.mountShm(path, size || 64 * 1024 * 1024);
    return path;
  }

  private runtimeSpec(
    container: ContainerRecord,
    network: Network,
    mounts: readonly ResolvedMount[],
    shmPath: string | undefined,
    cgroup: string,
  ): RuntimeSpec {
    const { config, hostConfig } = container;
    const ipcOf = sharedContainer(hostConfig.IpcMode);
    const pidOf = sharedContainer(hostConfig.PidMode);
    return buildRuntimeSpec({
      id: container.id,
      config,
      hostConfig,
      host: this.options.host,
      rootfs: container.snapshot.mergedDir,
      mounts,
      ...(network.joins === '' ? {} : { netnsPath: network.joins }),
      ...networkFiles(network.files),
      cgroupsPath: cgroup,
      linkEnvironment: linkEnvironment(
        container.name,
        linkTargets(container, (target) => this.options.store.containers.get(target)),
      ),
      ...(ipcOf === undefined ? {} : { ipcNamespacePath: `/proc/${this.namespaceRunOf(ipcOf, 'IPC').pid}/ns/ipc` }),
      ...(pidOf === undefined ? {} : { pidNamespacePath: `/proc/${this.namespaceRunOf(pidOf, 'PID').pid}/ns/pid` }),
      ...(shmPath === undefined ? {} : { shmPath }),
      defaults: this.options.defaults,
    });
  }
}

/** network-volume leaves out what a mode does not have. */
function networkFiles(files: SandboxFiles): { hostnamePath?: string; hostsPath?: string; resolvConfPath?: string } {
  return {
    ...(files.hostname === '' ? {} : { hostnamePath: files.hostname }),
    ...(files.hosts === '' ? {} : { hostsPath: files.hosts }),
    ...(files.resolvConf === '' ? {} : { resolvConfPath: files.resolvConf }),
  };
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** The health of a new run is not that of the last. */
function withHealth({ config }: ContainerRecord): { health?: Health } {
  const health = initialHealth(config);
  return health === undefined ? {} : { health };
}
