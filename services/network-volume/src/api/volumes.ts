/** flotilla.volume.v1.Volumes */
import type { Duplex } from 'node:stream';
import type { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { volumeCreateRequest } from '@flotilla/engine-api';
import { errorMessage } from '@flotilla/errors';
import type { Handlers } from '@flotilla/service-kit';
import { ownedBy, type PolicySource } from '@flotilla/service-kit/rights';
import { encodeLine, type TicketServer, writeOutput } from '@flotilla/streams';
import type { Records } from '../records.ts';
import { checkVolumeName } from '../volume.ts';
import type { VolumeArchives } from '../volumeArchives.ts';
import type { Volumes } from '../volumes.ts';
import { fromJsonBytes, toJsonBytes } from './convert.ts';

export interface VolumesApiOptions {
  readonly volumes: Volumes;
  readonly records: Records;
  readonly archives: VolumeArchives;
  readonly tickets: TicketServer;
  readonly policy?: PolicySource | undefined;
}

export function volumesApi({ volumes, records, archives, tickets, policy }: VolumesApiOptions): Handlers<typeof VolumesService> {
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
    prune: ({ filters }) => volumes.prune(filters, ownedBy(policy)),
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
    populate: async ({ name, sourceDir, subpath }) => ({ copied: await volumes.populate(name, sourceDir, subpath) }),
    async backup({ name }) {
      await archives.checkBackup(name);
      const serve = (stream: Duplex, signal: AbortSignal) => archives.backup(name, (chunk) => writeOutput(stream, chunk), signal);
      return { ticket: tickets.issue(serve, { outputOnly: true, inPieces: true }) };
    },
    async restore({ name, replace }) {
      checkVolumeName(name);
      await archives.checkRestore(name, replace);
      return {
        ticket: tickets.issue(async (stream) => {
          const verdict = await archives.restore(name, replace, stream).then(
            () => ({}),
            (error: unknown) => ({ error: errorMessage(error) }),
          );
          stream.write(encodeLine(verdict));
        }),
      };
    },
    async retain({ known }) {
      await volumes.retain(known);
      return {};
    },
    listUses: async () => ({ uses: volumes.uses() }),
  };
}
