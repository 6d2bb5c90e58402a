/**
 * Swarm's routes: this engine is never part of a swarm, and says so in dockerd's words. What a request itself has wrong is told first, as dockerd
 * reads bodies, filters and versions before it asks whether it is a manager.
 */
import type { IncomingMessage } from 'node:http';
import { document } from '@flotilla/engine-api';
import { InvalidParameter, Unavailable } from '@flotilla/errors';
import type { Router } from 'express';
import { optionalJson } from '../http/body.ts';
import { filtersOf } from '../http/filters.ts';
import { boolean, text } from '../http/query.ts';

export const notASwarmManager =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
const notInASwarm = 'This node is not part of a swarm';
const notAvailable = 'swarm mode is not available in this engine';

/** What is read of a request before it is refused. */
type Reading = (request: IncomingMessage) => unknown;

const nothing: Reading = () => {};
const body: Reading = (request) => optionalJson(request, document);
const filters: Reading = (request) => filtersOf(request);

/** The version of the object that an update means to change. */
function bodyAndVersion(kind: 'swarm' | 'node' | 'service' | 'secret' | 'config'): Reading {
  return async (request) => {
    await body(request);
    const version = text(request, 'version');
    if (/^[0-9]{1,19}$/.test(version)) return;
    if (kind === 'secret' || kind === 'config') throw new InvalidParameter(`invalid ${kind} version`);
    throw new InvalidParameter(
      `invalid ${kind} version '${version}': strconv.ParseUint: parsing ${JSON.stringify(version)}: invalid syntax`,
    );
  };
}

const streams: Reading = (request) => {
  if (boolean(request, 'stdout') || boolean(request, 'stderr')) return;
  throw new InvalidParameter('Bad parameters: you must choose at least one stream');
};

/** Every operation of swarm, nodes, services, tasks, secrets and configs, in the order in which paths are matched. */
const refused: [method: 'get' | 'post' | 'delete', path: RegExp, reading: Reading, words?: string][] = [
  ['get', /^\/swarm$/, nothing],
  ['post', /^\/swarm\/init$/, body, notAvailable],
  ['post', /^\/swarm\/join$/, body, notAvailable],
  ['post', /^\/swarm\/leave$/, nothing, notInASwarm],
  ['post', /^\/swarm\/update$/, bodyAndVersion('swarm')],
  ['get', /^\/swarm\/unlockkey$/, nothing],
  ['post', /^\/swarm\/unlock$/, body],
  ['get', /^\/nodes$/, filters],
  ['get', /^\/nodes\/(?<name>.*)$/, nothing],
  ['delete', /^\/nodes\/(?<name>.*)$/, nothing],
  ['post', /^\/nodes\/(?<name>.*)\/update$/, bodyAndVersion('node')],
  ['get', /^\/services$/, filters],
  ['post', /^\/services\/create$/, body],
  ['get', /^\/services\/(?<name>.*)\/logs$/, streams],
  ['get', /^\/services\/(?<name>.*)$/, nothing],
  ['delete', /^\/services\/(?<name>.*)$/, nothing],
  ['post', /^\/services\/(?<name>.*)\/update$/, bodyAndVersion('service')],
  ['get', /^\/tasks$/, filters],
  ['get', /^\/tasks\/(?<name>.*)\/logs$/, streams],
  ['get', /^\/tasks\/(?<name>.*)$/, nothing],
  ['get', /^\/secrets$/, filters],
  ['post', /^\/secrets\/create$/, body],
  ['get', /^\/secrets\/(?<name>.*)$/, nothing],
  ['delete', /^\/secrets\/(?<name>.*)$/, nothing],
  ['post', /^\/secrets\/(?<name>.*)\/update$/, bodyAndVersion('secret')],
  ['get', /^\/configs$/, filters],
  ['post', /^\/configs\/create$/, body],
  ['get', /^\/configs\/(?<name>.*)$/, nothing],
  ['delete', /^\/configs\/(?<name>.*)$/, nothing],
  ['post', /^\/configs\/(?<name>.*)\/update$/, bodyAndVersion('config')],
];

export function swarmRoutes(router: Router): void {
  for (const [method, path, reading, words = notASwarmManager] of refused) {
    router[method](path, async (request) => {
      await reading(request);
      throw new Unavailable(words);
    });
  }
}
