import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { root } from '../src/stack/accounts.ts';
import { stackPaths } from '../src/stack/paths.ts';
import { type ProcessOptions, planProcesses } from '../src/stack/processes.ts';
import { openSecrets } from '../src/stack/secrets.ts';
import { services } from '../src/stack/services.ts';

const scratch = mkdtempSync(join(tmpdir(), 'flotilla-processes-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const options: ProcessOptions = {
  paths: stackPaths({ dataRoot: scratch, execRoot: scratch }),
  accounts: { gateway: root, registry: root, redis: root, nats: root },
  engineId: 'e1',
  secrets: openSecrets(join(scratch, 'secrets.json')),
  redis: { kind: 'own', url: 'unix:///r' },
  nats: { kind: 'own', url: 'nats://127.0.0.1:4222' },
  natsPort: 4222,
  engineConfigs: { redis: 'users of a version', nats: 'users' },
  engineOptions: {},
  logLevel: 'info',
  shutdownTimeoutSeconds: 10,
  compactMain: 'deploy/src/compact/main.ts',
  compact: false,
  listeners: [],
  code: scratch,
  version: '1',
};

/** The processes that these options make other ones. */
function changed(other: Partial<ProcessOptions>): string[] {
  const now = planProcesses({ ...options, ...other });
  return planProcesses(options).flatMap(({ name, digest }) => (now.find((plan) => plan.name === name)?.digest === digest ? [] : [name]));
}

it('an engine is another one with another configuration, and with no other version of ours', () => {
  expect(changed({})).toEqual([]);
  expect(changed({ engineConfigs: { redis: 'users of another', nats: 'users' } })).toEqual(['redis']);
  expect(changed({ version: '2' })).toEqual(services.map(({ name }) => name));
});
