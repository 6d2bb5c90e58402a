import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { natsConfig, natsPermissions } from './natsConfig.ts';
import { redisConfig, redisUsers } from './redisConfig.ts';
import { openSecrets, type Secrets } from './secrets.ts';
import { serviceNames } from './services.ts';

const scratch = mkdtempSync(join(tmpdir(), 'flotilla-secrets-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const secrets = Object.fromEntries(
  [...serviceNames, 'supervisor'].map((name) => [name, { redis: `r-${name}`, nats: `n-${name}` }]),
) as Secrets;

describe('redis', () => {
  it('gives each service its own keys and no other, and no password in clear', () => {
    const users = redisUsers('e1', secrets);
    const line = users.split('\n').find((text) => text.startsWith('user image-service '));
    expect(line).toContain('~flotilla:{e1:image-service}:*');
    expect(line).toContain(`#${createHash('sha256').update('r-image-service').digest('hex')}`);
    expect(line).toContain('-@admin -@dangerous');
    expect(users).toContain('user default off');
    expect(users).not.toContain('r-image-service');
  });

  it('is a private, durable record', () => {
    const text = redisConfig({ data: '/d/re"dis', socket: '/e/redis.sock', users: '/e/users.acl' });
    expect(text).toContain('port 0\n');
    expect(text).toContain('appendfsync always\n');
    expect(text).toContain('maxmemory-policy noeviction\n');
    expect(text).toContain('dir "/d/re\\"dis"\n');
  });
});

describe('nats', () => {
  it('lets a service say its own beat and events only', () => {
    const { publish, subscribe } = natsPermissions('e1', 'registry-proxy');
    expect(publish).toEqual(['flotilla.e1.who', 'flotilla.e1.beat.registry-proxy', 'flotilla.e1.registry-proxy.>']);
    expect(subscribe).toEqual(['flotilla.e1.>', '_INBOX.>']);
    expect(natsPermissions('e1', 'container-service').publish).toContain('flotilla.e1.events.container');
    expect(natsPermissions('e1', 'container-service').publish).not.toContain('flotilla.e1.events.image');
  });

  it('listens on the loopback with a user for each service', () => {
    const config = JSON.parse(natsConfig({ port: 20123, store: '/d/nats', engineId: 'e1', secrets })) as {
      listen: string;
      authorization: { users: { user: string; permissions: object }[] };
    };
    // With allow_responses the server tracks each message that carries a reply subject, as all of JetStream's do.
    expect(config.authorization.users.map(({ permissions }) => Object.keys(permissions))).toEqual(
      serviceNames.map(() => ['publish', 'subscribe']),
    );
    expect(config.listen).toBe('127.0.0.1:20123');
    expect(config.authorization.users.map((user) => user.user)).toEqual(serviceNames);
  });
});

describe('secrets', () => {
  it('are made once, for root alone, and a broken one is made anew', () => {
    const first = openSecrets(scratch);
    expect(openSecrets(scratch)).toEqual(first);
    for (const name of readdirSync(scratch)) expect(statSync(join(scratch, name)).mode & 0o777).toBe(0o600);
    writeFileSync(join(scratch, 'gateway.json'), '{"redis":');
    const second = openSecrets(scratch);
    expect(second.gateway).not.toEqual(first.gateway);
    expect(second['image-service']).toEqual(first['image-service']);
  });
});
