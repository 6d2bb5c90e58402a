import { NotFound } from '@flotilla/errors';
import { expect, it } from 'vitest';
import type { ContainerRecord } from './container.ts';
import { linkEnvironment, linkTargets, resolvedLinks, runningLinkEnvironment, shownLinks, withoutLink } from './links.ts';
import { containerRecord, runningState } from './testing/containers.ts';

const database = containerRecord({
  name: 'db-1',
  config: { Env: ['PATH=/bin', 'HOME=/root', 'PASSWORD=a=b'], ExposedPorts: { '9000/udp': {}, '5432/tcp': {} } },
  state: runningState(),
  networkSettings: { Networks: { bridge: { IPAddress: '172.17.0.9' } } } as unknown as NonNullable<ContainerRecord['networkSettings']>,
});
const onHost = containerRecord({ name: 'hosted', hostConfig: { NetworkMode: 'host' } });
const sharing = containerRecord({ name: 'sharing', hostConfig: { NetworkMode: `container:${database.id}` } });
const all = [database, onHost, sharing];
const get = (id: string): ContainerRecord | undefined => all.find((each) => each.id === id);
const find = (reference: string): ContainerRecord => {
  const found = all.find((each) => each.name === reference || each.id === reference);
  if (found === undefined) throw new NotFound(`No such container: ${reference}`);
  return found;
};

it('keeps the ids of what is linked, and the last part of an alias', () => {
  const resolve = (...Links: string[]): string[] => resolvedLinks({ NetworkMode: 'bridge', Links }, find);
  expect(resolve('db-1', 'db-1:data', '/db-1:/web/data')).toEqual([`${database.id}:db-1`, `${database.id}:data`, `${database.id}:data`]);
  expect(resolve('sharing')).toEqual([`${database.id}:sharing`]);
  expect(resolvedLinks({ NetworkMode: 'mine', Links: ['nobody'] }, find)).toEqual([]);
  expect(() => resolve('nobody:x')).toThrow('could not get container for nobody: No such container: nobody');
  expect(() => resolve('hosted')).toThrow("conflicting options: host type networking can't be used with links");
  expect(() => resolve('a:b:c')).toThrow('bad format for links: a:b:c');
  expect(() => resolve('')).toThrow('empty string specified for links');
});

it('shows links by the names of today, and forgets those to what is gone', () => {
  const parent = containerRecord({ hostConfig: { Links: [`${database.id}:data`, `${'f'.repeat(64)}:gone`] } });
  expect(shownLinks('web', linkTargets(parent, get))).toEqual(['/db-1:/web/data']);
  expect(shownLinks('web', [])).toBeNull();
  expect(withoutLink(parent, 'gone')).toEqual([`${database.id}:data`]);
});

it('brings the address, ports and environment of what is linked', () => {
  expect(linkEnvironment('web', [{ container: database, alias: 'my-db' }])).toEqual([
    'MY_DB_PORT=tcp://172.17.0.9:5432',
    'MY_DB_PORT_5432_TCP=tcp://172.17.0.9:5432',
    'MY_DB_PORT_5432_TCP_ADDR=172.17.0.9',
    'MY_DB_PORT_5432_TCP_PORT=5432',
    'MY_DB_PORT_5432_TCP_PROTO=tcp',
    'MY_DB_PORT_9000_UDP=udp://172.17.0.9:9000',
    'MY_DB_PORT_9000_UDP_ADDR=172.17.0.9',
    'MY_DB_PORT_9000_UDP_PORT=9000',
    'MY_DB_PORT_9000_UDP_PROTO=udp',
    'MY_DB_NAME=/web/my-db',
    'MY_DB_ENV_PASSWORD=a=b',
  ]);
});

it('brings an exec those that run', () => {
  const stopped = { ...database, state: containerRecord().state };
  const variables = runningLinkEnvironment('web', [
    { container: stopped, alias: 'stopped' },
    { container: database, alias: 'db' },
  ]);
  expect(variables).toContain('DB_NAME=/web/db');
  expect(variables.join()).not.toContain('STOPPED');
});

it('refuses a start while what is linked does not run', () => {
  const stopped = { ...database, state: containerRecord().state };
  expect(() => linkEnvironment('web', [{ container: stopped, alias: 'db' }])).toThrow(
    'Cannot link to a non running container: /db-1 AS /web/db',
  );
});
