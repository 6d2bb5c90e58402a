/** Routes of volumes. */
import { volumeCreateRequest } from '@flotilla/engine-api';
import { Unavailable } from '@flotilla/errors';
import type { Router } from 'express';
import { type Backends, long, read } from '../backends.ts';
import { olderThan } from '../http/apiVersion.ts';
import { optionalJson } from '../http/body.ts';
import { filtersOf, toProto, withFilter } from '../http/filters.ts';
import { boolean } from '../http/query.ts';
import { sendJson, sendNoContent } from '../http/respond.ts';
import { name } from './parameters.ts';
import { notASwarmManager } from './swarm.ts';

export function volumeRoutes(router: Router, { volumes }: Backends): void {
  router.get(/^\/volumes$/, async (request, response) => {
    const { volumesJson, warnings } = await volumes.list({ filters: toProto(filtersOf(request)), usage: false }, read);
    const list = Buffer.from(volumesJson.buffer, volumesJson.byteOffset, volumesJson.length).toString();
    sendJson(
      response,
      200,
      Buffer.from(`{"Volumes":${list || '[]'},"Warnings":${warnings.length > 0 ? JSON.stringify(warnings) : 'null'}}`),
    );
  });

  router.get(/^\/volumes\/(?<name>.+)$/, async (request, response) => {
    const { volumeJson } = await volumes.inspect({ name: name(request) }, read);
    sendJson(response, 200, volumeJson);
  });

  router.post(/^\/volumes\/create$/, async (request, response) => {
    const config = await optionalJson(request, volumeCreateRequest);
    // Older versions know no cluster volumes: the field is one of those that mean nothing.
    if (config.ClusterVolumeSpec !== undefined && !olderThan(request, '1.42')) throw new Unavailable(notASwarmManager);
    // A volume that is there already under its name is the answer, too.
    const { volumeJson } = await volumes.create(
      { configJson: Buffer.from(JSON.stringify(config)) },
      config.Name ? { ...long, ...read } : long,
    );
    sendJson(response, 201, volumeJson);
  });

  router.post(/^\/volumes\/prune$/, async (request, response) => {
    // Before 1.42 named volumes were pruned too.
    const filters = olderThan(request, '1.42') ? withFilter(filtersOf(request), 'all', 'true') : filtersOf(request);
    const { names, spaceReclaimed } = await volumes.prune({ filters: toProto(filters) }, long);
    sendJson(response, 200, { VolumesDeleted: names.length > 0 ? names : null, SpaceReclaimed: Number(spaceReclaimed) });
  });

  router.put(/^\/volumes\/(?<name>.+)$/, () => {
    throw new Unavailable('volume update only valid for cluster volumes, but swarm is unavailable');
  });

  router.delete(/^\/volumes\/(?<name>.+)$/, async (request, response) => {
    await volumes.remove({ name: name(request), force: boolean(request, 'force') }, long);
    sendNoContent(response);
  });
}
