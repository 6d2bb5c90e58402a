import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { outsideNats, outsideRedis } from './outsideEngines.ts';

test('users, passwords and what files hold are taken out of the environment, for one server as for several', () => {
  const directory = mkdtempSync(join(tmpdir(), 'outside-'));
  try {
    const [ca, creds] = [join(directory, 'ca.pem'), join(directory, 'creds')];
    writeFileSync(ca, 'CA');
    writeFileSync(creds, 'SUSEED');
    expect(outsideRedis({ REDIS_URL: 'rediss-sentinel://me:p%40ss@a:1,b:2/main', REDIS_CA_FILE: ca })).toEqual({
      kind: 'outside',
      url: 'rediss-sentinel://a:1,b:2/main',
      user: 'me',
      password: 'p@ss',
      tls: { ca: 'CA' },
      credentials: '',
    });
    expect(outsideNats({ NATS_URL: 'nats://u:p@a:1,nats://u:p@b:2', NATS_CREDS_FILE: creds })).toEqual({
      kind: 'outside',
      url: 'nats://a:1,nats://b:2',
      user: 'u',
      password: 'p',
      tls: {},
      credentials: 'SUSEED',
    });
    expect(outsideNats({ NATS_URL: 'tls://token@a' })).toMatchObject({ url: 'tls://a', user: 'token', password: '' });
    expect(outsideNats({ NATS_URL: 'nats://u:p,q@a:1, nats://u:p,q@b:2' })).toMatchObject({
      url: 'nats://a:1,nats://b:2',
      password: 'p,q',
    });
    expect(outsideRedis({})).toBeUndefined();
    expect(outsideNats({ NATS_URL: '' })).toBeUndefined();
  } finally {
    rmSync(directory, { recursive: true });
  }
});

const refused = [
  [() => outsideRedis({ REDIS_URL: 'localhost' }), 'not a URL of a Redis'],
  [() => outsideNats({ NATS_URL: 'nats://a:1,http://b:2' }), 'not a URL of a NATS: http://b:2'],
  [() => outsideNats({ NATS_URL: 'nats://a', NATS_CREDS_FILE: '/nowhere' }), 'NATS_CREDS_FILE: ENOENT'],
] as const;

test.each(refused)('%s is refused', (read, why) => {
  expect(read).toThrow(why);
});

test.each([
  'redis://me:hush/hush@a:1',
  'redis://me:hush@hush@a:1',
  'redis://me:hush%hush@a:1',
  'redis-sentinel://me:hush/@a:1,b:2/main',
  'redis://me:hush@a:b:c',
])('%s is refused without its password', (url) => {
  const said = (read: () => unknown): string => {
    try {
      return JSON.stringify(read());
    } catch (error) {
      return String(error);
    }
  };
  expect(said(() => outsideRedis({ REDIS_URL: url }))).toMatch(/^InvalidParameter: (?!.*hush)/);
  expect(said(() => outsideNats({ NATS_URL: url.replace(/^redis/, 'nats') }))).toMatch(/^InvalidParameter: (?!.*hush)/);
});
