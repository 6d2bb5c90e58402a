/** Plugins' routes: none is ever installed. What a request itself has wrong is told first, as dockerd does. */
import type { IncomingMessage } from 'node:http';
import { document, list, string } from '@flotilla/engine-api';
import { InvalidParameter, NotFound, NotImplemented } from '@flotilla/errors';
import type { Router } from 'express';
import { optionalJson } from '../http/body.ts';
import { filtersOf } from '../http/filters.ts';
import { parseInteger, text } from '../http/query.ts';
import { sendJson } from '../http/respond.ts';
import { name } from './parameters.ts';

export function pluginRoutes(router: Router): void {
  router.get(/^\/plugins$/, (request, response) => {
    checkFilters(request);
    sendJson(response, 200, []);
  });
  router.get(/^\/plugins\/privileges$/, refuse);
  router.post(/^\/plugins\/pull$/, refuse);
  router.post(/^\/plugins\/create$/, refuse);
  router.get(/^\/plugins\/(?<name>.*)\/json$/, (request) => missing(name(request)));
  router.delete(/^\/plugins\/(?<name>.*)$/, (request) => missing(name(request)));
  router.post(/^\/plugins\/(?<name>.*)\/enable$/, (request) => {
    parseInteger(text(request, 'timeout'));
    missing(name(request));
  });
  for (const act of ['disable', 'push']) {
    router.post(new RegExp(`^/plugins/(?<name>.*)/${act}$`), (request) => missing(name(request)));
  }
  router.post(/^\/plugins\/(?<name>.*)\/set$/, async (request) => {
    await optionalJson(request, list(string));
    missing(name(request));
  });
  router.post(/^\/plugins\/(?<name>.*)\/upgrade$/, async (request) => {
    await optionalJson(request, list(document));
    const plugin = name(request);
    missing(/[:@]/.test(plugin) ? plugin : `${plugin}:latest`);
  });
}

function checkFilters(request: IncomingMessage): void {
  for (const [filter, values] of filtersOf(request)) {
    if (filter !== 'enabled' && filter !== 'capability') throw new InvalidParameter(`invalid filter '${filter}'`);
    if (filter === 'capability' || (values.length === 1 && /^(?:0|1|true|false)$/.test(values[0] ?? ''))) continue;
    throw new InvalidParameter(`invalid filter 'enabled=[${values.join(' ')}]'`);
  }
}

function refuse(): never {
  throw new NotImplemented('plugins are not available in this engine');
}

function missing(plugin: string): never {
  throw new NotFound(`plugin "${plugin}" not found`);
}
