import { buildLabel } from '@flotilla/engine-api';
import { expect, test } from 'vitest';
import type { ContainerRecord } from './container.ts';
import { containerSubjects } from './rights.ts';
import type { ContainerStore } from './store.ts';
import { containerRecord } from './testing/containers.ts';

function storeOf(containers: readonly ContainerRecord[], execs: Record<string, unknown> = {}): ContainerStore {
  return {
    fresh: async () => undefined,
    containers: new Map(containers.map((container) => [container.id, container])),
    names: new Map(containers.map(({ id, name }) => [name, { id }])),
    execs: new Map(Object.entries(execs)),
  } as unknown as ContainerStore;
}

function subjects(containers: readonly ContainerRecord[], execs?: Record<string, unknown>) {
  const of = containerSubjects(storeOf(containers, execs));
  return async (method: string, request: object): Promise<{ name: string; isNobodys: boolean; dangers: string[] }[]> =>
    (await of(`/flotilla.container.v1.${method}`, request)).map(({ name, isNobodys = false, dangers = [] }) => ({
      name,
      isNobodys,
      dangers: [...dangers],
    }));
}

const bind = { Type: 'bind', Source: '/x', Target: '/x' } as const;

test("a step of a build is in nobody's name, and has what the host gives it but for what is lent to it", async () => {
  const step = containerRecord({
    name: 'step',
    config: { Labels: { [buildLabel]: 'b' } },
    hostConfig: { NetworkMode: 'host', Mounts: [bind] },
  });
  const of = subjects([step]);
  expect(await of('Execs/Create', { container: 'step' })).toEqual([{ name: 'step', isNobodys: true, dangers: ['host-namespaces'] }]);
});

test("a start joins a network that was not there at the create: the other's dangers are its own", async () => {
  const other = containerRecord({ name: 'other', hostConfig: { NetworkMode: 'host' } });
  const late = containerRecord({ name: 'late', hostConfig: { NetworkMode: 'container:other' } });
  const looked = containerRecord({ name: 'looked', hostConfig: { NetworkMode: `container:${other.id}` } });
  const behind = containerRecord({ name: 'behind', hostConfig: { NetworkMode: `container:${late.id}` } });
  const of = subjects([other, late, looked, behind]);
  const names = async (method: string, container: string) => (await of(`Containers/${method}`, { container })).map(({ name }) => name);
  expect(await names('Start', 'late')).toEqual(['late', 'other']);
  expect(await names('Restart', 'late')).toEqual(['late', 'other']);
  expect(await names('Stop', 'late')).toEqual(['late']);
  expect(await names('Start', 'behind')).toEqual(['behind', 'other']);
  // That was decided when it was created.
  expect(await names('Start', 'looked')).toEqual(['looked']);
});

test('a container has what it got by others: their namespaces, through however many, and their binds', async () => {
  const onHost = containerRecord({ name: 'onHost', hostConfig: { NetworkMode: 'host' } });
  const joined = containerRecord({ name: 'joined', hostConfig: { NetworkMode: `container:${onHost.id}` } });
  const twice = containerRecord({ name: 'twice', hostConfig: { NetworkMode: 'container:joined' } });
  const round = containerRecord({ name: 'round', hostConfig: { NetworkMode: 'container:trip' } });
  const trip = containerRecord({ name: 'trip', hostConfig: { NetworkMode: 'container:round' } });
  const mount = { type: 'bind', source: '/etc', destination: '/x', mode: '', rw: true, propagation: 'rprivate' } as const;
  const filled = containerRecord({ name: 'filled', hostConfig: { VolumesFrom: ['other'] }, mounts: [mount] });
  const of = subjects([onHost, joined, twice, round, trip, filled]);
  const dangers = async (container: string) => (await of('Execs/Create', { container })).map((subject) => subject.dangers);
  expect(await dangers('twice')).toEqual([['host-namespaces']]);
  expect(await dangers('round')).toEqual([[]]);
  expect(await dangers('filled')).toEqual([['host-mounts']]);
});

test('an exec has what its container has and what it was given itself', async () => {
  const container = containerRecord({ name: 'plain', hostConfig: { CapAdd: ['SYS_TIME'] } });
  const execOf = (config: object) => ({ containerId: container.id, config });
  const of = subjects([container], { plain: execOf({}), mighty: execOf({ Privileged: true }) });
  const dangers = async (exec: string) => (await of('Execs/Start', { exec })).map((subject) => subject.dangers);
  expect([await dangers('plain'), await dangers('mighty'), await dangers('gone')]).toEqual([
    [['capabilities']],
    [['privileged', 'capabilities']],
    [],
  ]);
});

test("whose a container is its own labels say, and not its image's", async () => {
  const config = { Labels: { team: 'a', kept: 'y' } };
  const [made, older] = [containerRecord({ name: 'made', config, ownLabels: { kept: 'y' } }), containerRecord({ name: 'older', config })];
  const of = containerSubjects(storeOf([made, older]));
  const labels = async (container: string) =>
    (await of('/flotilla.container.v1.Containers/Stop', { container })).map((each) => each.labels);
  expect([await labels('made'), await labels('older')]).toEqual([[{ kept: 'y' }], [config.Labels]]);
});
