/**
 * The container: its record, its states, and which change is allowed when.
 *
 * A record is the truth about a container; processes, mounts and files are made to agree with it (reconcile.ts). Collections in Redis:
 *
 *     container/<id>        ContainerRecord
 *     name/<name>           { id }             reserves a name, in the same commit as the container that has it
 *     exec/<id>             ExecRecord         gone with its container's run
 *     trash/<id>            TrashRecord        removed containers whose files are still to be deleted
 */
import type { ContainerConfig, ContainerStateName, EndpointSettings, Health, HostConfig, NetworkSettings } from '@flotilla/engine-api';
import { Conflict, NotModified } from '@flotilla/errors';
import { never } from './clock.ts';
import type { ImageMounts } from './imageMounts.ts';
import type { MountPlan } from './spec/index.ts';

/** One run of a container: what has to be found again by another instance of this service, or after a crash. */
export interface Run {
  /** unique a start; names nothing, tells runs apart. */
  readonly id: string;
  /** which boot of the machine it belongs to. */
  readonly bootId: string;
  readonly pid: number;
  /** start time of `pid` in clock ticks since boot: tells it from a later process with the same number. */
  readonly pidStart: string;
  readonly monitorPid: number;
  readonly monitorStart: string;
  /** name of the OCI runtime, as in `--runtime`. */
  readonly runtime: string;
  /** cgroup path below each hierarchy's mount. */
  readonly cgroup: string;
  /** bytes of the log when this run began. */
  readonly logOffset: number;
  /** where its network namespace can be entered; empty: the host's. */
  readonly netns: string;
  readonly files: SandboxFiles;
  readonly shmPath?: string;
}

/** Host paths of what is mounted over /etc/hostname, /etc/hosts and /etc/resolv.conf. */
export interface SandboxFiles {
  readonly hostname: string;
  readonly hosts: string;
  readonly resolvConf: string;
}

export interface State {
  readonly status: ContainerStateName;
  readonly exitCode: number;
  readonly error: string;
  readonly oomKilled: boolean;
  readonly startedAt: string;
  readonly finishedAt: string;
  /** present while running or paused. */
  readonly run?: Run;
  readonly health?: Health;
}

/** What `mount -t overlay` needs, from image-service. */
export interface Snapshot {
  readonly lowerDirs: readonly string[];
  readonly upperDir: string;
  readonly workDir: string;
  readonly mergedDir: string;
  readonly baseDir: string;
}

export interface ContainerRecord {
  /** 64 hex digits. */
  readonly id: string;
  /** without the leading slash. */
  readonly name: string;
  readonly created: string;
  readonly image: { readonly id: string; readonly reference: string; readonly manifestDescriptor?: unknown };
  readonly platform: string;
  /** as asked for, merged with the image's. */
  readonly config: ContainerConfig;
  /** the labels that were given at the create: an image's say nothing of whose a container is. Absent in records of older versions. */
  readonly ownLabels?: Readonly<Record<string, string>>;
  readonly hostConfig: HostConfig;
  /** the endpoints that were asked for, by network name. */
  readonly endpoints: Readonly<Record<string, EndpointSettings>>;
  readonly path: string;
  readonly args: readonly string[];
  readonly state: State;
  readonly snapshot: Snapshot;
  /** snapshots of the images that it mounts. */
  readonly imageMounts?: ImageMounts;
  readonly mounts: readonly MountPlan[];
  readonly networkSettings?: NetworkSettings;
  readonly files?: SandboxFiles;
  /** the AppArmor profile of its last run, where the kernel has AppArmor. */
  readonly apparmorProfile?: string;
  readonly logPath: string;
  readonly restartCount: number;
  /** stop or kill came from a client: `unless-stopped` and `always` leave it be. */
  readonly stoppedByUser: boolean;
  /** A client waits for it to stop: the end of its run tells of that too. */
  readonly stopRequested?: boolean;
  /** `docker restart` has stopped it and is about to start it again: it is not removed by `--rm`, and reconcile finishes the restart. */
  readonly restartRequested?: boolean;
}

/** A removed container: what it held, until all of that is free and its files are deleted. */
export interface TrashRecord {
  readonly container: ContainerRecord;
  readonly exitCode: number;
  /** its anonymous volumes go too. */
  readonly removeVolumes: boolean;
}

export const initialState: State = {
  status: 'created',
  exitCode: 0,
  error: '',
  oomKilled: false,
  startedAt: never,
  finishedAt: never,
};

/** A process of the container exists: running, paused, or running again after a restart by policy. */
export function isRunning(container: ContainerRecord): boolean {
  return container.state.run !== undefined;
}

export function isPaused(container: ContainerRecord): boolean {
  return container.state.status === 'paused';
}

/**
 * Refuses a start that the state forbids.
 *
 * @throws NotModified when it runs; Conflict when it is paused, being removed or dead.
 */
export function assertStartable(container: ContainerRecord): void {
  if (container.state.status === 'paused') throw new Conflict('cannot start a paused container, try unpause instead');
  if (isRunning(container)) throw new NotModified('container is already running');
  if (container.state.status === 'removing' || container.state.status === 'dead') {
    throw new Conflict('container is marked for removal and cannot be started');
  }
}

/** @throws Conflict in dockerd's words when it does not run. */
export function assertRunning(container: ContainerRecord): Run {
  if (container.state.run === undefined) throw notRunning(container.id);
  return container.state.run;
}

/** In dockerd's words. */
export function notRunning(id: string): Conflict {
  return new Conflict(`container ${id} is not running`);
}

/** The labels that say whose it is. */
export function ownLabelsOf({ ownLabels, config }: Pick<ContainerRecord, 'ownLabels' | 'config'>): ContainerConfig['Labels'] {
  return ownLabels ?? config.Labels;
}

/** The container whose namespace is meant by a mode like `container:<id>`; undefined for other modes. */
export function sharedContainer(mode: string | undefined): string | undefined {
  return mode?.startsWith('container:') ? mode.slice('container:'.length) : undefined;
}
