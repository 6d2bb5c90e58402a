/** The gRPC service Snapshots: decodes, calls, encodes. */
import type { SnapshotMounts, SnapshotsService } from '@flotilla/contracts/flotilla/image/v1/images';
import type { Handlers } from '@flotilla/service-kit';
import type { ImageStore } from '../imageStore.ts';
import type { Mounts, Snapshots } from '../snapshots.ts';

export function snapshotHandlers(store: ImageStore, snapshots: Snapshots): Handlers<typeof SnapshotsService> {
  return {
    async prepare(request) {
      await store.fresh();
      return { mounts: toProto(await snapshots.prepare(request.key, request.imageId)) };
    },

    async mounts(request) {
      await store.fresh();
      return { mounts: toProto(snapshots.mounts(request.key)) };
    },

    async remove(request) {
      await store.fresh();
      await snapshots.remove(request.key);
      return {};
    },

    async usage(request) {
      await store.fresh();
      const { sizeRw, sizeRootFs } = await snapshots.usage(request.key);
      return { sizeRw: BigInt(sizeRw), sizeRootFs: BigInt(sizeRootFs) };
    },

    async retain(request) {
      await store.fresh();
      return { removed: await snapshots.retain(request.keys) };
    },
  };
}

function toProto(mounts: Mounts): SnapshotMounts {
  return { ...mounts, lowerDirs: [...mounts.lowerDirs] };
}
