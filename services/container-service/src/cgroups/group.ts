/** A container's control group: its limits, its processes, its freezer and its counters, the same for v1 and v2. */
import type { RuntimeResources } from '@flotilla/oci';
import { joinGroup, processesBelow, removeGroup } from './files.ts';
import { type CgroupSupport, Hierarchy } from './hierarchy.ts';
import { LegacyControls } from './legacy.ts';
import type { CgroupSample } from './sample.ts';
import { UnifiedControls } from './unified.ts';

/** What differs between v1 and v2. */
export interface Controls {
  update(resources: RuntimeResources): void;
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  frozen(): boolean;
  sample(): CgroupSample;
  /** how often the kernel has killed something in the group for want of memory */
  oomKills(): number;
  /** whether processes of the group stand still for want of memory, because none is to be killed */
  outOfMemory(): boolean;
}

export class Group {
  /** from the root of each hierarchy, as the runtime takes it: `/flotilla/<id>` */
  readonly path: string;
  readonly #hierarchy: Hierarchy;
  readonly #controls: Controls;

  constructor(hierarchy: Hierarchy, path: string) {
    this.path = path;
    this.#hierarchy = hierarchy;
    this.#controls = hierarchy.version === 2 ? new UnifiedControls(hierarchy, path) : new LegacyControls(hierarchy, path);
  }

  /**
   * Changes limits of a running container; what is absent stays as it is.
   *
   * @throws the kernel's error when it refuses one (EBUSY: more is in use than the new limit).
   */
  update(resources: RuntimeResources): void {
    this.#controls.update(resources);
  }

  /** Stops every process of the group where it stands; resolves when all are. */
  freeze(): Promise<void> {
    return this.#controls.freeze();
  }

  thaw(): Promise<void> {
    return this.#controls.thaw();
  }

  frozen(): boolean {
    return this.#controls.frozen();
  }

  /** Host pids of all its processes, those in groups below it too. */
  processes(): number[] {
    const directory = this.#hierarchy.directory('pids', this.path) ?? this.#hierarchy.directory('freezer', this.path);
    return directory === undefined ? [] : processesBelow(directory);
  }

  /** Puts a process into it, in every hierarchy; makes it where it is not there yet. */
  async join(pid: number): Promise<void> {
    await Promise.all(this.#hierarchy.directories(this.path).map((directory) => joinGroup(directory, pid)));
  }

  sample(): CgroupSample {
    return this.#controls.sample();
  }

  oomKills(): number {
    return this.#controls.oomKills();
  }

  outOfMemory(): boolean {
    return this.#controls.outOfMemory();
  }

  /**
   * Removes it from every hierarchy. Idempotent.
   *
   * @returns false while a process is still in it.
   */
  remove(): boolean {
    return this.#hierarchy.directories(this.path).map(removeGroup).every(Boolean);
  }
}

/** The control groups of this host. */
export class Cgroups {
  readonly hierarchy: Hierarchy;
  readonly support: CgroupSupport;
  readonly #parent: string;

  /** @param parent - the group containers' groups are in unless they name another. */
  constructor(hierarchy: Hierarchy, parent = '/flotilla') {
    this.hierarchy = hierarchy;
    this.support = hierarchy.support();
    this.#parent = parent;
  }

  static detect(parent?: string): Cgroups {
    return new Cgroups(Hierarchy.detect(), parent);
  }

  get version(): 1 | 2 {
    return this.hierarchy.version;
  }

  /**
   * The group of a container, from the root of each hierarchy.
   *
   * @param parent - HostConfig.CgroupParent; empty: the engine's.
   */
  pathFor(containerId: string, parent = ''): string {
    const above = (parent === '' ? this.#parent : parent).split('/').filter((part) => part !== '' && part !== '.' && part !== '..');
    return `/${[...above, containerId].join('/')}`;
  }

  group(path: string): Group {
    return new Group(this.hierarchy, path);
  }
}
