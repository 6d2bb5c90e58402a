/** Every operation of Engine API v1.50 has a route, and the call behind it is the right one. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask } from '../testing/exchange.ts';
import { startTestGateway, type TestGateway } from '../testing/testGateway.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(() => gateway.stop());

const create = '{"Image":"x"}';

/** method, path, status, the call it makes (or none), body */
const operations: [method: string, path: string, status: number, call?: string, body?: string][] = [
  ['GET', '/containers/json', 200, 'containers.list'],
  ['POST', '/containers/create', 201, 'containers.create', create],
  ['GET', '/containers/x/json', 200, 'containers.inspect'],
  ['GET', '/containers/x/top', 200, 'containers.top'],
  ['GET', '/containers/x/logs?stdout=1', 200, 'containers.logs'],
  ['GET', '/containers/x/changes', 200, 'containers.changes'],
  ['GET', '/containers/x/export', 200, 'containers.export'],
  ['GET', '/containers/x/stats?stream=0', 200, 'containers.stats'],
  ['POST', '/containers/x/resize?h=1&w=2', 200, 'containers.resize'],
  ['POST', '/containers/x/start', 204, 'containers.start'],
  ['POST', '/containers/x/stop', 204, 'containers.stop'],
  ['POST', '/containers/x/restart', 204, 'containers.restart'],
  ['POST', '/containers/x/kill', 204, 'containers.kill'],
  ['POST', '/containers/x/update', 200, 'containers.update', '{}'],
  ['POST', '/containers/x/rename?name=y', 204, 'containers.rename'],
  ['POST', '/containers/x/pause', 204, 'containers.pause'],
  ['POST', '/containers/x/unpause', 204, 'containers.unpause'],
  ['POST', '/containers/x/attach?stream=1&stdout=1', 200, 'containers.attach'],
  ['GET', '/containers/x/attach/ws', 400],
  ['POST', '/containers/x/wait', 200, 'containers.wait'],
  ['DELETE', '/containers/x', 204, 'containers.remove'],
  ['GET', '/containers/x/archive?path=/', 200, 'containers.getArchive'],
  ['HEAD', '/containers/x/archive?path=/', 200, 'containers.statArchive'],
  ['PUT', '/containers/x/archive?path=/', 200, 'containers.putArchive', 'tar'],
  ['POST', '/containers/prune', 200, 'containers.prune'],
  ['GET', '/images/json', 200, 'images.list'],
  ['POST', '/build', 200, 'builds.build', 'tar'],
  ['POST', '/build/prune', 200, 'builds.prune'],
  ['POST', '/images/create?fromImage=x', 200, 'images.pull'],
  ['GET', '/images/a/b/c/json', 200, 'images.inspect'],
  ['GET', '/images/a/b/history', 200, 'images.history'],
  ['POST', '/images/a/b/push', 200, 'images.push'],
  ['POST', '/images/a/b/tag?repo=c', 201, 'images.tag'],
  ['DELETE', '/images/a/b', 200, 'images.remove'],
  ['GET', '/images/search?term=x', 200, 'registries.search'],
  ['POST', '/images/prune', 200, 'images.prune'],
  ['POST', '/commit?container=x', 201, 'containers.commit'],
  ['GET', '/images/a/b/get', 200, 'images.save'],
  ['GET', '/images/get?names=a', 200, 'images.save'],
  ['POST', '/images/load', 200, 'images.load', 'tar'],
  ['GET', '/networks', 200, 'networks.list'],
  ['GET', '/networks/x', 200, 'networks.inspect'],
  ['DELETE', '/networks/x', 204, 'networks.remove'],
  ['POST', '/networks/create', 201, 'networks.create', '{"Name":"n"}'],
  ['POST', '/networks/x/connect', 200, 'containers.connectNetwork', '{"Container":"c"}'],
  ['POST', '/networks/x/disconnect', 200, 'containers.disconnectNetwork', '{"Container":"c"}'],
  ['POST', '/networks/prune', 200, 'networks.prune'],
  ['GET', '/volumes', 200, 'volumes.list'],
  ['POST', '/volumes/create', 201, 'volumes.create', '{}'],
  ['GET', '/volumes/x', 200, 'volumes.inspect'],
  ['PUT', '/volumes/x?version=1', 503],
  ['DELETE', '/volumes/x', 204, 'volumes.remove'],
  ['POST', '/volumes/prune', 200, 'volumes.prune'],
  ['POST', '/containers/x/exec', 201, 'execs.create', '{"Cmd":["sh"]}'],
  ['POST', '/exec/x/start', 200, 'execs.start', '{"Detach":true}'],
  ['POST', '/exec/x/resize?h=1&w=1', 200, 'execs.resize'],
  ['GET', '/exec/x/json', 200, 'execs.inspect'],
  ['GET', '/swarm', 503],
  ['POST', '/swarm/init', 503],
  ['POST', '/swarm/join', 503],
  ['POST', '/swarm/leave', 503],
  ['POST', '/swarm/update?version=1', 503],
  ['GET', '/swarm/unlockkey', 503],
  ['POST', '/swarm/unlock', 503],
  ['GET', '/nodes', 503],
  ['GET', '/nodes/x', 503],
  ['DELETE', '/nodes/x', 503],
  ['POST', '/nodes/x/update?version=1', 503],
  ['GET', '/services', 503],
  ['POST', '/services/create', 503],
  ['GET', '/services/x', 503],
  ['DELETE', '/services/x', 503],
  ['POST', '/services/x/update?version=1', 503],
  ['GET', '/services/x/logs?stdout=1', 503],
  ['GET', '/tasks', 503],
  ['GET', '/tasks/x', 503],
  ['GET', '/tasks/x/logs?stderr=1', 503],
  ['GET', '/secrets', 503],
  ['POST', '/secrets/create', 503],
  ['GET', '/secrets/x', 503],
  ['DELETE', '/secrets/x', 503],
  ['POST', '/secrets/x/update?version=1', 503],
  ['GET', '/configs', 503],
  ['POST', '/configs/create', 503],
  ['GET', '/configs/x', 503],
  ['DELETE', '/configs/x', 503],
  ['POST', '/configs/x/update?version=1', 503],
  ['GET', '/plugins', 200],
  ['GET', '/plugins/privileges?remote=x', 501],
  ['POST', '/plugins/pull?remote=x', 501],
  ['GET', '/plugins/a/b/json', 404],
  ['DELETE', '/plugins/x', 404],
  ['POST', '/plugins/x/enable?timeout=0', 404],
  ['POST', '/plugins/x/disable', 404],
  ['POST', '/plugins/x/upgrade?remote=y', 404],
  ['POST', '/plugins/create?name=x', 501],
  ['POST', '/plugins/x/push', 404],
  ['POST', '/plugins/x/set', 404],
  ['POST', '/auth', 200, 'registries.checkAuth', '{"username":"a"}'],
  ['GET', '/info', 200, 'containers.counts'],
  ['GET', '/version', 200],
  ['GET', '/_ping', 200],
  ['HEAD', '/_ping', 200],
  ['GET', '/events?until=1', 200],
  ['GET', '/system/df', 200, 'images.list'],
  ['GET', '/distribution/x/json', 503],
  ['POST', '/session', 400],
];

describe('operations', () => {
  it('are all here', () => {
    expect(operations).toHaveLength(107);
  });

  it.each(operations)('%s %s → %i', async (method, path, status, call, body) => {
    gateway.backends.calls.length = 0;
    const options = body === undefined ? {} : { body, headers: { 'Content-Type': 'application/json' } };
    const answer = await ask(gateway.socketPath, method, `/v1.50${path}`, options);
    expect(answer.status).toBe(status);
    expect(answer.body).not.toContain('page not found');
    if (status >= 400) expect(JSON.parse(answer.body)).toEqual({ message: expect.any(String) });
    if (call !== undefined) expect(gateway.backends.calls.map((each) => each.method)).toContain(call);
  });
});
