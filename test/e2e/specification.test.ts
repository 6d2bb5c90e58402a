/**
 * Every operation that answers with a document, its real answer, and the shape that the API's specification gives it: types, enumerations, fields that
 * must be there, null against empty, and no field that the specification does not know.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { type ApiAnswer, engineApi } from './engineApi.ts';
import * as containers from './specification/containers.ts';
import * as images from './specification/images.ts';
import * as networksVolumes from './specification/networksVolumes.ts';
import { list, problemsOf, type Shape } from './specification/shape.ts';
import { containerStatsResponse } from './specification/stats.ts';
import * as system from './specification/system.ts';
import { useStack } from './stack.ts';

const stack = useStack();

function ask(method: string, path: string, body?: unknown): Promise<ApiAnswer> {
  return engineApi(stack.host, method, `/v1.50${path}`, body === undefined ? {} : { body });
}

async function must(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
  const answer = await ask(method, path, body);
  if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${answer.message}`);
  return (answer.json ?? {}) as Record<string, unknown>;
}

let execId = '';
/** Of the registry's API, which has no place for the registry's address in a path of its own. */
const image = (): string => stack.busybox;

/** A container that uses much of what can be said of one, and one that says nothing. */
beforeAll(async () => {
  await must('POST', '/networks/create', {
    Name: 'whole',
    Labels: { a: 'b' },
    IPAM: { Config: [{ Subnet: '10.77.0.0/24', Gateway: '10.77.0.1' }] },
  });
  await must('POST', '/volumes/create', { Name: 'kept', Labels: { a: 'b' } });
  await must('POST', '/containers/create?name=whole', {
    Image: image(),
    Cmd: ['sleep', '1000'],
    Env: ['A=b'],
    Labels: { a: 'b' },
    ExposedPorts: { '80/tcp': {} },
    Healthcheck: { Test: ['CMD', 'true'], Interval: 1_000_000_000 },
    HostConfig: {
      Binds: ['kept:/kept'],
      NetworkMode: 'whole',
      PortBindings: { '80/tcp': [{ HostPort: '8080' }] },
      RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 3 },
      Mounts: [{ Type: 'tmpfs', Target: '/tmp' }],
      Memory: 64 * 1024 * 1024,
      Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
    },
  });
  await must('POST', '/containers/create?name=plain', { Image: image(), Cmd: ['true'] });
  await must('POST', '/containers/whole/start');
  await must('POST', '/containers/plain/start');
  await must('POST', '/containers/plain/wait');
  execId = String((await must('POST', '/containers/whole/exec', { Cmd: ['touch', '/new'] })).Id);
  await must('POST', `/exec/${execId}/start`, { Detach: true });
}, 180_000);

/** Operation, method, path (made when asked), shape, body. In this order: what removes comes last. */
const operations: [operation: string, method: string, path: () => string, shape: Shape, body?: unknown][] = [
  ['ContainerList', 'GET', () => '/containers/json?all=1&size=1', list(containers.containerSummary)],
  ['ContainerInspect', 'GET', () => '/containers/whole/json?size=1', containers.containerInspectResponse],
  ['ContainerInspect', 'GET', () => '/containers/plain/json', containers.containerInspectResponse],
  ['ContainerTop', 'GET', () => '/containers/whole/top', containers.containerTopResponse],
  ['ContainerChanges', 'GET', () => '/containers/whole/changes', list(containers.filesystemChange)],
  ['ContainerStats', 'GET', () => '/containers/whole/stats?stream=0', containerStatsResponse],
  ['ContainerCreate', 'POST', () => '/containers/create?name=made', containers.containerCreateResponse, { Image: 'IMAGE' }],
  ['ContainerUpdate', 'POST', () => '/containers/made/update', containers.containerUpdateResponse, { CpuShares: 512 }],
  ['ContainerWait', 'POST', () => '/containers/plain/wait', containers.containerWaitResponse],
  ['ContainerExec', 'POST', () => '/containers/whole/exec', images.idResponse, { Cmd: ['true'] }],
  ['ExecInspect', 'GET', () => `/exec/${execId}/json`, containers.execInspect],
  ['ImageList', 'GET', () => '/images/json?all=1&digests=1&shared-size=1&manifests=1', list(images.imageSummary)],
  ['ImageList', 'GET', () => '/images/json', list(images.imageSummary)],
  ['ImageInspect', 'GET', () => `/images/${image()}/json?manifests=1`, images.imageInspect],
  ['ImageHistory', 'GET', () => `/images/${image()}/history`, list(images.imageHistoryResponseItem)],
  ['ImageCommit', 'POST', () => '/commit?container=plain&repo=committed', images.idResponse, {}],
  ['ImageInspect', 'GET', () => '/images/committed/json', images.imageInspect],
  ['DistributionInspect', 'GET', () => `/distribution/${image()}/json`, images.distributionInspect],
  ['NetworkList', 'GET', () => '/networks', list(networksVolumes.network)],
  ['NetworkInspect', 'GET', () => '/networks/whole', networksVolumes.network],
  ['NetworkCreate', 'POST', () => '/networks/create', networksVolumes.networkCreateResponse, { Name: 'made' }],
  ['VolumeList', 'GET', () => '/volumes', networksVolumes.volumeListResponse],
  ['VolumeInspect', 'GET', () => '/volumes/kept', networksVolumes.volume],
  ['VolumeCreate', 'POST', () => '/volumes/create', networksVolumes.volume, { Name: 'made' }],
  ['SystemInfo', 'GET', () => '/info', system.systemInfo],
  ['SystemVersion', 'GET', () => '/version', system.systemVersion],
  ['SystemDataUsage', 'GET', () => '/system/df', system.systemDataUsage],
  ['SystemAuth', 'POST', () => '/auth', system.systemAuth, { username: 'a', password: 'b', serveraddress: 'REGISTRY' }],
  ['PluginList', 'GET', () => '/plugins', list(() => undefined)],
  ['ContainerInspect, which fails', 'GET', () => '/containers/ghost/json', system.errorResponse],
  ['ImageDelete', 'DELETE', () => '/images/committed', list(images.imageDeleteResponseItem)],
  ['ContainerPrune', 'POST', () => '/containers/prune', containers.containerPrune],
  ['ContainerPrune, of nothing', 'POST', () => '/containers/prune', containers.containerPrune],
  ['ImagePrune', 'POST', () => '/images/prune', images.imagePrune],
  ['BuildPrune', 'POST', () => '/build/prune', images.buildPrune],
  ['NetworkPrune', 'POST', () => '/networks/prune', networksVolumes.networkPrune],
  ['VolumePrune', 'POST', () => '/volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D', networksVolumes.volumePrune],
];

describe('answers have the shape that the specification gives them', () => {
  it.each(operations)('%s', async (_operation, method, path, shape, body) => {
    const text =
      body === undefined ? undefined : JSON.stringify(body).replace('IMAGE', image()).replace('REGISTRY', stack.registry.address);
    const answer = await ask(method, path(), text);
    expect(answer.headers['content-type']).toBe('application/json');
    expect(problemsOf(shape, answer.json)).toEqual([]);
  });

  it('SystemEvents', async () => {
    const answer = await ask('GET', `/events?since=1&until=${Math.ceil(Date.now() / 1000)}`);
    const events = answer.text
      .trim()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    expect(events.length).toBeGreaterThan(10);
    expect(events.flatMap((event) => problemsOf(system.eventMessage, event))).toEqual([]);
  });

  it('a shape tells what is wrong', () => {
    const shape = containers.containerWaitResponse;
    expect(problemsOf(shape, { StatusCode: 'x', Other: 1 })).toEqual(['.StatusCode is "x", not an integer', '.Other is no field of it']);
    expect(problemsOf(shape, {})).toEqual(['.StatusCode is missing']);
    expect(problemsOf(list(shape), null)).toEqual([' is null, not a list']);
  });
});
