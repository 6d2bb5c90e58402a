import { NotFound } from '@flotilla/errors';
import { describe, expect, test } from 'vitest';
import { type Filters, selectContainers } from './list.ts';
import { containerRecord, exitedState, runningState } from './testing/containers.ts';

const web = containerRecord({
  name: 'web',
  config: { Labels: { tier: 'front', empty: '' }, ExposedPorts: { '443/tcp': {} } },
  state: runningState({ health: { Status: 'healthy', FailingStreak: 0, Log: null } }),
  mounts: [
    { type: 'volume', name: 'data', destination: '/data', mode: 'z', rw: true, propagation: '' },
    { type: 'bind', source: '/srv/site', destination: '/site', mode: '', rw: true, propagation: 'rprivate' },
  ],
  networkSettings: {
    Ports: { '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8080' }] },
    Networks: { front: { NetworkID: 'n1f2' } },
  } as never,
});
const failed = containerRecord({ name: 'failed', config: { Labels: { tier: 'back' } }, state: exitedState(3) });
const created = containerRecord({ name: 'web-old', image: { id: 'sha256:other', reference: 'other' } });
const all = [web, failed, created];

async function select(filters: Filters, request: { all?: boolean; limit?: number } = {}): Promise<string[]> {
  const chosen = await selectContainers(
    all,
    { all: request.all ?? true, limit: request.limit ?? 0, filters },
    {
      find: (reference) => {
        const found = all.find(({ name, id }) => name === reference || id === reference);
        if (found === undefined) throw new NotFound(`No such container: ${reference}`);
        return found;
      },
      ancestors: async (reference) => (reference === 'other' ? ['sha256:other'] : undefined),
    },
  );
  return chosen.map(({ name }) => name);
}

describe('a list', () => {
  test('shows what runs, the newest first; with all everything; with a limit the last', async () => {
    expect(await select({}, { all: false })).toEqual(['web']);
    expect(await select({})).toEqual(['web-old', 'failed', 'web']);
    expect(await select({}, { all: false, limit: 2 })).toEqual(['web-old', 'failed']);
    expect(await select({ since: ['web'] }, { all: false })).toEqual([]);
    expect(await select({ before: ['web-old'] }, { all: false })).toEqual(['web']);
  });

  test.each<[Filters, string[]]>([
    [{ name: ['web'] }, ['web-old', 'web']],
    [{ name: ['^/web$'] }, ['web']],
    [{ name: ['nope'] }, []],
    [{ id: [web.id] }, ['web']],
    [{ label: ['tier'] }, ['failed', 'web']],
    [{ label: ['tier=back'] }, ['failed']],
    [{ label: ['tier', 'empty='] }, ['web']],
    [{ status: ['exited', 'created'] }, ['web-old', 'failed']],
    [{ exited: ['3'] }, ['failed']],
    [{ health: ['healthy'] }, ['web']],
    [{ health: ['none'] }, ['web-old', 'failed']],
    [{ network: ['front'] }, ['web']],
    [{ network: ['n1f2'] }, ['web']],
    [{ network: ['n1'] }, ['web']],
    [{ network: ['1f'] }, []],
    [{ volume: ['/srv/site'] }, ['web']],
    [{ volume: ['data'] }, ['web']],
    [{ volume: ['/data'] }, ['web']],
    [{ publish: ['8080'] }, ['web']],
    [{ publish: ['8000-9000/tcp'] }, ['web']],
    [{ publish: ['8080/udp'] }, []],
    [{ expose: ['80', '9'] }, ['web']],
    [{ expose: ['443/tcp'] }, ['web']],
    [{ ancestor: ['other'] }, ['web-old']],
    [{ ancestor: ['missing'] }, []],
    [{ before: ['failed'] }, ['web']],
    [{ since: ['failed'] }, ['web-old']],
    [{ 'is-task': ['false'] }, ['web-old', 'failed', 'web']],
  ])('%j', async (filters, names) => {
    expect(await select(filters)).toEqual(names);
  });

  test.each<[Filters, string]>([
    [{ nope: ['1'] }, "invalid filter 'nope'"],
    [{ status: ['up'] }, "invalid filter 'status=up'"],
    [{ exited: ['x'] }, "invalid filter 'exited=x'"],
    [{ before: ['gone'] }, 'No such container: gone'],
  ])('%j is refused', async (filters, message) => {
    await expect(select(filters)).rejects.toThrow(message);
  });
});
