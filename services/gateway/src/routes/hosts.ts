/** Other hosts that are reached through this gateway. What is below `/hosts/NAME` never comes here: hosts/relay.ts passes it on. */
import type { Router } from 'express';
import type { HostRelay } from '../hosts/relay.ts';
import { sendJson } from '../http/respond.ts';

export function hostRoutes(router: Router, relay: HostRelay | undefined): void {
  router.get(/^\/hosts$/, async (_request, response) => {
    sendJson(response, 200, relay === undefined ? [] : await relay.list());
  });
}
