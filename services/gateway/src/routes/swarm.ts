/** Swarm's routes: this engine is never part of a swarm, and says so in dockerd's words. */
import { Unavailable } from '@flotilla/errors';
import type { Router } from 'express';

const notASwarmManager =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.';
const notInASwarm = 'This node is not part of a swarm';

/** Every operation of swarm, nodes, services, tasks, secrets and configs. */
const managed: [method: 'get' | 'post' | 'delete', path: RegExp][] = [
  ['get', /^\/swarm$/],
  ['post', /^\/swarm\/update$/],
  ['get', /^\/swarm\/unlockkey$/],
  ['get', /^\/nodes$/],
  ['get', /^\/nodes\/(?<name>.*)$/],
  ['delete', /^\/nodes\/(?<name>.*)$/],
  ['post', /^\/nodes\/(?<name>.*)\/update$/],
  ['get', /^\/services$/],
  ['post', /^\/services\/create$/],
  ['get', /^\/services\/(?<name>.*)$/],
  ['delete', /^\/services\/(?<name>.*)$/],
  ['post', /^\/services\/(?<name>.*)\/update$/],
  ['get', /^\/tasks$/],
  ['get', /^\/tasks\/(?<name>.*)$/],
  ['get', /^\/secrets$/],
  ['post', /^\/secrets\/create$/],
  ['get', /^\/secrets\/(?<name>.*)$/],
  ['delete', /^\/secrets\/(?<name>.*)$/],
  ['post', /^\/secrets\/(?<name>.*)\/update$/],
  ['get', /^\/configs$/],
  ['post', /^\/configs\/create$/],
  ['get', /^\/configs\/(?<name>.*)$/],
  ['delete', /^\/configs\/(?<name>.*)$/],
  ['post', /^\/configs\/(?<name>.*)\/update$/],
];

export function swarmRoutes(router: Router): void {
  for (const [method, path] of managed) {
    router[method](path, () => {
      throw new Unavailable(notASwarmManager);
    });
  }
  for (const path of [/^\/swarm\/leave$/, /^\/swarm\/unlock$/]) {
    router.post(path, () => {
      throw new Unavailable(notInASwarm);
    });
  }
  for (const path of [/^\/swarm\/init$/, /^\/swarm\/join$/]) {
    router.post(path, () => {
      throw new Unavailable('swarm mode is not available in this engine');
    });
  }
}
