/**
 * Mounts of images (`--mount type=image`): each is a snapshot of its own above the image, mounted for the run and bound read-only. Its key is the container's id,
 * a dot and the mount's number.
 */
import type { ContainerRecord, Snapshot } from './container.ts';
import type { Neighbours } from './neighbours.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import type { MountPlan } from './spec/index.ts';

/** By the snapshot's key. */
export type ImageMounts = Readonly<Record<string, Snapshot>>;

export function imageMountKey(containerId: string, index: number): string {
  return `${containerId}.${index}`;
}

/** The keys of the snapshots that these will need. */
export function imageMountKeys(containerId: string, plans: readonly MountPlan[]): string[] {
  return plans.flatMap(({ type }, index) => (type === 'image' ? [imageMountKey(containerId, index)] : []));
}

/**
 * Prepares a snapshot for each image that is to be mounted.
 *
 * @throws NotFound when the image is not here.
 */
export async function prepareImageMounts(
  containerId: string,
  plans: readonly MountPlan[],
  { images, snapshots }: Pick<Neighbours, 'images' | 'snapshots'>,
  onPreparing: (key: string) => void,
): Promise<ImageMounts> {
  const mounts: Record<string, Snapshot> = {};
  for (const [index, plan] of plans.entries()) {
    if (plan.type !== 'image') continue;
    const image = await images.resolve(
      { image: plan.source ?? '', platform: '', idOnly: true, withDescendants: false },
      { idempotent: true },
    );
    const key = imageMountKey(containerId, index);
    onPreparing(key);
    const { mounts: snapshot } = await snapshots.prepare({ key, imageId: image.id }, { idempotent: true });
    if (snapshot === undefined) throw new Error('image-service prepared a snapshot without mounts');
    mounts[key] = snapshot;
  }
  return mounts;
}

/** Mounts them for a run. */
export async function mountImages({ imageMounts = {} }: ContainerRecord, roots: RootFilesystems): Promise<void> {
  for (const [key, snapshot] of Object.entries(imageMounts)) (await roots.mountForRun(key, snapshot))();
}

export async function unmountImages({ imageMounts = {} }: ContainerRecord, roots: RootFilesystems): Promise<void> {
  for (const [key, snapshot] of Object.entries(imageMounts)) await roots.forget(key, snapshot);
}
