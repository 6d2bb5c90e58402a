/** Routes of networks. Joining and leaving change a container's record, so container-service is asked for those. */
import { networkConnectRequest, networkCreateRequest, networkDisconnectRequest } from '@flotilla/engine-api';
import { isNotFound } from '@flotilla/errors';
import type { Router } from 'express';
import { type Backends, long, read } from '../backends.ts';
import { olderThan } from '../http/apiVersion.ts';
import { optionalJson } from '../http/body.ts';
import { filtersOf, toProto } from '../http/filters.ts';
import { strictBoolean, text } from '../http/query.ts';
import { sendEmpty, sendJson, sendNoContent } from '../http/respond.ts';
import { name } from './parameters.ts';

export function networkRoutes(router: Router, { containers, networks }: Backends): void {
  router.get(/^\/networks\/?$/, async (request, response) => {
    const { networksJson } = await networks.list({ filters: toProto(filtersOf(request)) }, read);
    // Before 1.28 a list told of each network's containers too.
    sendJson(response, 200, olderThan(request, '1.28') ? await inspectEach(networksJson) : networksJson);
  });

  async function inspectEach(networksJson: Uint8Array): Promise<unknown[]> {
    const listed = JSON.parse(new TextDecoder().decode(networksJson)) as { Id: string }[];
    const inspected = listed.map(async ({ Id }) => {
      try {
        const { networkJson } = await networks.inspect({ network: Id, verbose: false, scope: '' }, read);
        return JSON.parse(new TextDecoder().decode(networkJson)) as unknown;
      } catch (error) {
        // It was removed since.
        if (isNotFound(error)) return undefined;
        throw error;
      }
    });
    return (await Promise.all(inspected)).filter((network) => network !== undefined);
  }

  router.get(/^\/networks\/(?<name>.+)$/, async (request, response) => {
    const { networkJson } = await networks.inspect(
      { network: name(request), verbose: strictBoolean(request, 'verbose'), scope: text(request, 'scope') },
      read,
    );
    sendJson(response, 200, networkJson);
  });

  router.post(/^\/networks\/create$/, async (request, response) => {
    const config = await optionalJson(request, networkCreateRequest);
    delete config.CheckDuplicate;
    // Before 1.48 every network had IPv4.
    if (olderThan(request, '1.48')) delete config.EnableIPv4;
    const { id, warning } = await networks.create({ configJson: Buffer.from(JSON.stringify(config)) }, long);
    sendJson(response, 201, { Id: id, Warning: warning });
  });

  router.post(/^\/networks\/(?<name>.*)\/connect$/, async (request, response) => {
    const { Container: container = '', EndpointConfig: endpoint } = await optionalJson(request, networkConnectRequest);
    // Before 1.44 an endpoint's MacAddress was ignored.
    if (endpoint !== undefined && olderThan(request, '1.44')) delete endpoint.MacAddress;
    const endpointJson = endpoint === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(endpoint));
    await containers.connectNetwork({ network: name(request), container, endpointJson });
    sendEmpty(response, 200);
  });

  router.post(/^\/networks\/(?<name>.*)\/disconnect$/, async (request, response) => {
    const { Container: container = '', Force: force = false } = await optionalJson(request, networkDisconnectRequest);
    await containers.disconnectNetwork({ network: name(request), container, force });
    sendEmpty(response, 200);
  });

  router.post(/^\/networks\/prune$/, async (request, response) => {
    const { names } = await networks.prune({ filters: toProto(filtersOf(request)) }, long);
    sendJson(response, 200, { NetworksDeleted: names.length > 0 ? names : null });
  });

  router.delete(/^\/networks\/(?<name>.*)$/, async (request, response) => {
    await networks.remove({ network: name(request) }, long);
    sendNoContent(response);
  });
}
