/** A container's volumes and binds, from the plan in its record to paths of this host. */
import { closeSync, constants, mkdirSync, openSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { randomId } from '@flotilla/engine-api';
import { InvalidParameter, System } from '@flotilla/errors';
import { hasCode, openat2, openPath, resolveFlags } from '@flotilla/syscalls';
import type { ContainerRecord, Snapshot } from './container.ts';
import { imageMountKey } from './imageMounts.ts';
import type { Neighbours } from './neighbours.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import { bindSubpath, type MountPlan, type ResolvedMount } from './spec/index.ts';

/** Gives volumes without a name one that is made up: who is cut off from the answer to taking one knows by it what to give back. */
export function nameVolumes(plans: readonly MountPlan[]): MountPlan[] {
  return plans.map((plan) => (plan.type === 'volume' && !plan.name ? { ...plan, name: randomId() } : plan));
}

/**
 * Takes each volume of a plan for the container, and puts its place into it.
 *
 * @param onAcquiring - told before it is asked for: it may be taken though the answer is lost. Undo: release what has been told.
 */
export async function acquireVolumes(
  containerId: string,
  plans: readonly MountPlan[],
  { volumes }: Pick<Neighbours, 'volumes'>,
  onAcquiring: (volume: MountPlan) => void,
): Promise<MountPlan[]> {
  const mounts: MountPlan[] = [];
  for (const plan of plans) {
    if (plan.type !== 'volume') {
      mounts.push(plan);
      continue;
    }
    onAcquiring(plan);
    const answer = await volumes.acquire(
      {
        name: plan.name ?? '',
        user: containerId,
        driver: plan.driver ?? '',
        driverOptions: plan.driverOptions ?? {},
        labels: plan.labels ?? {},
        anonymous: plan.anonymous === true,
      },
      { idempotent: true },
    );
    mounts.push({ ...plan, name: answer.name, driver: answer.driver, source: answer.mountpoint });
  }
  return mounts;
}

/** Copies what the image has at a volume's mount point into a volume, or the part of it that is mounted, that is still empty, as dockerd does at create. */
export async function populateVolumes(
  container: { readonly id: string; readonly snapshot: Snapshot; readonly mounts: readonly MountPlan[] },
  { volumes }: Pick<Neighbours, 'volumes'>,
  roots: RootFilesystems,
): Promise<void> {
  const wanting = container.mounts.filter((mount) => mount.type === 'volume' && !mount.noCopy && mount.name);
  if (wanting.length === 0) return;
  await roots.with(container.id, container.snapshot, async (root) => {
    for (const mount of wanting) {
      const source = directoryInRoot(root, mount.destination, mount.anonymous === true);
      if (source !== undefined) await volumes.populate({ name: mount.name ?? '', sourceDir: source, subpath: mount.subpath ?? '' });
    }
  });
}

/**
 * The host path of a directory in a root file system, links followed inside it and never out of it; undefined when there is none.
 *
 * @throws System when a file is in the way of a volume that nobody named, as with dockerd.
 */
function directoryInRoot(root: string, path: string, isUnnamed: boolean): string | undefined {
  const rootFd = openSync(root, constants.O_DIRECTORY | constants.O_RDONLY);
  try {
    const fd = openat2(rootFd, path, { flags: openPath | constants.O_DIRECTORY, resolve: resolveFlags.inRoot });
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (isUnnamed && hasCode(error, 'ENOTDIR'))
      throw new System(`cannot mount volume over existing file, file exists ${path}`, { cause: error });
    return undefined;
  } finally {
    closeSync(rootFd);
  }
}

/** Makes a container's mounts ready for a start: volumes mounted, missing sources of binds made. */
export async function prepareMounts(
  container: ContainerRecord,
  { volumes }: Pick<Neighbours, 'volumes'>,
  { subpathTarget, rootIsOwn }: { subpathTarget: (index: number) => string; rootIsOwn: boolean },
): Promise<ResolvedMount[]> {
  return await Promise.all(
    container.mounts.map(async (mount, index) => {
      switch (mount.type) {
        case 'volume': {
          const { path } = await volumes.mount(
            {
              name: mount.name ?? '',
              user: container.id,
              destination: mount.destination,
              propagation: mount.propagation,
              readOnly: !mount.rw,
            },
            { idempotent: true },
          );
          if (mount.subpath === undefined) return { ...mount, source: path };
          return subpathOf(path, mount, subpathTarget(index));
        }
        case 'image': {
          const path = container.imageMounts?.[imageMountKey(container.id, index)]?.mergedDir ?? '';
          if (mount.subpath === undefined) return { ...mount, source: path };
          return subpathOf(path, mount, subpathTarget(index));
        }
        case 'bind':
          if (rootIsOwn) refuseOwnRoot(mount.source ?? '');
          makeBindSource(mount);
          return mount;
        default:
          return mount;
      }
    }),
  );
}

function subpathOf(path: string, mount: MountPlan, target: string): ResolvedMount {
  bindSubpath(path, mount.subpath ?? '', target, makeMountPoint);
  return { ...mount, source: target };
}

/** Where this service is itself a container: what is not mounted into it is its image's, and lost with it. */
function refuseOwnRoot(source: string): void {
  let existing = source;
  while (statSync(existing, { throwIfNoEntry: false }) === undefined) existing = dirname(existing);
  if (statSync(existing).dev !== statSync('/').dev) return;
  throw new InvalidParameter(
    `invalid mount config for type "bind": ${source} is not shared with container-service, which is a container itself: add it to its volumes, at the same path`,
  );
}

/** `-v /path:…` makes a directory where nothing is; `--mount` refuses. */
function makeBindSource(mount: MountPlan): void {
  const source = mount.source ?? '';
  if (statSync(source, { throwIfNoEntry: false }) !== undefined) return;
  if (!mount.createMountpoint) {
    throw new InvalidParameter(`invalid mount config for type "bind": bind source path does not exist: ${source}`);
  }
  mkdirSync(source, { recursive: true, mode: 0o755 });
}

function makeMountPoint(path: string, isDirectory: boolean): void {
  mkdirSync(isDirectory ? path : dirname(path), { recursive: true });
  if (!isDirectory) writeFileSync(path, '');
}
