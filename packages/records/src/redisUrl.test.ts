import { expect, test } from 'vitest';
import { parseRedisUrl } from './redisUrl.ts';

const understood = [
  ['unix:///run/redis.sock', { kind: 'socket', path: '/run/redis.sock' }],
  ['redis://h', { kind: 'server', isTls: false, nodes: [{ host: 'h', port: 6379 }], database: 0 }],
  ['redis://h:1/3', { kind: 'server', isTls: false, nodes: [{ host: 'h', port: 1 }], database: 3 }],
  ['rediss://[fd00::1]:7000/0', { kind: 'server', isTls: true, nodes: [{ host: 'fd00::1', port: 7000 }], database: 0 }],
  [
    'redis-sentinel://a,b:2/the%20master',
    {
      kind: 'sentinel',
      isTls: false,
      master: 'the master',
      nodes: [
        { host: 'a', port: 26379 },
        { host: 'b', port: 2 },
      ],
    },
  ],
  ['rediss-cluster://10.0.0.1:1', { kind: 'cluster', isTls: true, nodes: [{ host: '10.0.0.1', port: 1 }] }],
] as const;

test.each(understood)('%s is understood', (url, place) => {
  expect(parseRedisUrl(url)).toEqual(place);
});

const refused = [
  ['http://h:1', 'not a URL of a Redis'],
  ['redis://', 'not a URL of a Redis'],
  ['redis://a:1,b:2', 'names several servers'],
  ['redis://h:1/records', 'not the number of a database'],
  ['redis-cluster://h:1/3', 'a cluster has database 0 only'],
  ['redis-sentinel://a:1', 'does not say which master'],
  ['redis-cluster://a:99999', 'not HOST:PORT'],
  ['redis-cluster://a:1,', 'not HOST:PORT'],
] as const;

test.each(refused)('%s is refused', (url, why) => {
  expect(() => parseRedisUrl(url)).toThrow(why);
});
