/** Routes of the engine itself. Ping is answered before Express (middleware/dispatch.ts). */
import { type AuthConfig, authConfig, type SystemInfo, type SystemVersion } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import type { Backends } from '../backends.ts';
import { olderThan, versionOf } from '../http/apiVersion.ts';
import { decodeBody, readBody } from '../http/body.ts';
import { query } from '../http/query.ts';
import { sendEmpty, sendJson } from '../http/respond.ts';
import { shimDiskUsage, shimSystemInfo } from '../shims/system.ts';
import { diskUsage, diskUsageTypes } from '../system/diskUsage.ts';

export interface SystemRouteOptions {
  readonly backends: Backends;
  readonly info: () => Promise<SystemInfo>;
  readonly version: () => Promise<SystemVersion>;
}

export function systemRoutes(router: Router, { backends, info, version }: SystemRouteOptions): void {
  router.get(/^\/version$/, async (_request, response) => {
    sendJson(response, 200, await version());
  });

  router.get(/^\/info$/, async (request, response) => {
    sendJson(response, 200, shimSystemInfo(await info(), versionOf(request)));
  });

  router.get(/^\/system\/df$/, async (request, response) => {
    // Types came with 1.42.
    const types = olderThan(request, '1.42') ? [] : query(request).getAll('type');
    sendJson(response, 200, shimDiskUsage(await diskUsage(backends, diskUsageTypes(types)), versionOf(request)));
  });

  router.options(/.*/, (_request, response) => {
    sendEmpty(response, 200);
  });

  router.post(/^\/auth$/, async (request, response) => {
    const credentials: AuthConfig | undefined = decodeBody(authConfig, await readBody(request));
    if (credentials === undefined) throw new InvalidParameter('invalid JSON: credentials are missing');
    const { status, identityToken } = await backends.registries.checkAuth({ authJson: Buffer.from(JSON.stringify(credentials)) });
    sendJson(response, 200, { Status: status, IdentityToken: identityToken });
  });
}
