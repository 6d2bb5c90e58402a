/** flotilla.volume.v1.Volumes */
import type { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { volumeCreateRequest } from '@flotilla/engine-api';
import type { Handlers } from '@flotilla/service-kit';
import type { Records } from '../records.ts';
import type { Volumes } from '../volumes.ts';
import { fromJsonBytes, toJsonBytes } from './convert.ts';

export function volumesApi(volumes: Volumes, records: Records): Handlers<typeof VolumesService> {
  return {
    create: async (request) => ({ volumeJson: toJsonBytes(await volumes.create(fromJsonBytes(volumeCreateRequest, request.configJson))) }),
    async inspect({ name }) {
      await records.fresh();
      return { volumeJson: toJsonBytes(await volumes.inspect(name)) };
    },
    async list(request) {
      await records.fresh();
      const { volumes: found, warnings } = await volumes.list(request);
      return { volumesJson: toJsonBytes(found), warnings };
    },
    async remove({ name, force }) {
      await volumes.remove(name, force);
      return {};
    },
    prune: ({ filters }) => volumes.prune(filters),
    acquire: (request) => volumes.acquire(request),
    async release({ name, user, removeAnonymous }) {
      await volumes.release(name, user, removeAnonymous);
      return {};
    },
    mount: async (request) => ({ path: await volumes.mount(request) }),
    async unmount({ name, user }) {
      await volumes.unmount(name, user);
      return {};
    },
    populate: async ({ name, sourceDir }) => ({ copied: await volumes.populate(name, sourceDir) }),
    async retain({ known }) {
      await volumes.retain(known);
      return {};
    },
  };
}
