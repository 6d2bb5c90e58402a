/** Plugins' routes: none is ever installed. */
import { NotFound, NotImplemented } from '@flotilla/errors';
import type { Router } from 'express';
import { filtersOf } from '../http/filters.ts';
import { sendJson } from '../http/respond.ts';
import { name } from './parameters.ts';

export function pluginRoutes(router: Router): void {
  router.get(/^\/plugins$/, (request, response) => {
    filtersOf(request);
    sendJson(response, 200, []);
  });
  router.get(/^\/plugins\/privileges$/, refuse);
  router.post(/^\/plugins\/pull$/, refuse);
  router.post(/^\/plugins\/create$/, refuse);
  router.get(/^\/plugins\/(?<name>.*)\/json$/, (request) => missing(name(request)));
  router.delete(/^\/plugins\/(?<name>.*)$/, (request) => missing(name(request)));
  for (const act of ['enable', 'disable', 'upgrade', 'push', 'set']) {
    router.post(new RegExp(`^/plugins/(?<name>.*)/${act}$`), (request) => missing(name(request)));
  }
}

function refuse(): never {
  throw new NotImplemented('plugins are not available in this engine');
}

function missing(plugin: string): never {
  throw new NotFound(`plugin "${plugin}" not found`);
}
