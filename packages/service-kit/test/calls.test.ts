import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { ContainersService, WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { Unavailable } from '@flotilla/errors';
import { startNats, type TestNats, waitFor } from '@flotilla/testkit';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  Bus,
  createLogger,
  currentRequest,
  Discovery,
  GrpcServer,
  type Handlers,
  Health,
  runWithRequest,
  serviceCalls,
} from '../src/index.ts';

const logger = createLogger({ service: 'test', instance: 'i', level: 'silent' });
const search = { term: 'x', limit: 1, filters: {}, registryAuth: '' };

let nats: TestNats;
let folder: string;
const buses: Bus[] = [];
const stops: (() => Promise<unknown>)[] = [];

async function bus(): Promise<Bus> {
  const made = await Bus.connect({ url: nats.url, engineId: 'e', name: 'test', logger });
  buses.push(made);
  return made;
}

/** A live instance of registry-proxy that answers `search` as told. */
async function instance(
  name: string,
  answer: Handlers<typeof RegistriesService>['search'],
): Promise<{ discovery: Discovery; server: GrpcServer; health: Health }> {
  const health = new Health();
  const server = new GrpcServer({ logger, health });
  server.add(RegistriesService, {
    search: answer,
    checkAuth: async () => ({ status: '', identityToken: '' }),
    info: async () => ({ registryConfigJson: Buffer.alloc(0) }),
  });
  const grpcAddress = `unix:${folder}/${name}.sock`;
  await server.listen(grpcAddress);
  const discovery = new Discovery({ bus: await bus() });
  discovery.announce({ service: 'registry-proxy', instance: name, pid: process.pid, grpcAddress, httpAddress: '', version: '0' }, health);
  stops.push(
    () => discovery.stop(),
    () => server.shutdown(100),
  );
  return { discovery, server, health };
}

async function caller(): Promise<{ calls: ReturnType<typeof serviceCalls<typeof RegistriesService>>; discovery: Discovery }> {
  const discovery = new Discovery({ bus: await bus() });
  stops.push(() => discovery.stop());
  return { calls: serviceCalls(RegistriesService, 'registry-proxy', discovery), discovery };
}

beforeAll(async () => {
  nats = await startNats();
  folder = mkdtempSync(join(tmpdir(), 'calls-'));
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  for (const made of buses.splice(0)) await made.close();
});
afterAll(async () => {
  await nats.stop();
  rmSync(folder, { recursive: true });
});

const echo = (name: string) => async () => ({ resultsJson: Buffer.from(name) });

describe('service calls', () => {
  it('wait for an instance that comes later', async () => {
    const { calls } = await caller();
    const answer = calls.search(search);
    await instance('late', echo('late'));
    expect(Buffer.from((await answer).resultsJson).toString()).toBe('late');
  });

  it('say clearly that nobody is there', async () => {
    const { calls } = await caller();
    await expect(calls.search(search, { deadlineMs: 200 })).rejects.toMatchObject({
      kind: 'Unavailable',
      message: 'registry-proxy is not available',
    });
  });

  it('go round the instances, leave one that says bye, and stay with one by key', async () => {
    const { calls, discovery } = await caller();
    const a = await instance('a', echo('a'));
    await instance('b', echo('b'));
    await waitFor(() => discovery.instances('registry-proxy').length === 2, { what: 'two instances' });
    const names = async (options = {}): Promise<Set<string>> => {
      const seen = new Set<string>();
      for (let i = 0; i < 20; i++) seen.add(Buffer.from((await calls.search(search, options)).resultsJson).toString());
      return seen;
    };
    await waitFor(async () => (await names()).size === 2, { what: 'both to be used' });
    expect((await names({ rendezvousKey: 'sha256:x' })).size).toBe(1);
    a.discovery.leave();
    await waitFor(() => discovery.instances('registry-proxy').length === 1, { what: 'bye' });
    expect(await names()).toEqual(new Set(['b']));
  });

  it('are repeated only when that is safe', async () => {
    const { calls } = await caller();
    let tries = 0;
    await instance('shaky', async () => {
      tries++;
      if (tries % 2 === 1) throw new Unavailable('not now');
      return { resultsJson: Buffer.from('ok') };
    });
    await expect(calls.search(search)).rejects.toMatchObject({ kind: 'Unavailable', message: 'not now' });
    expect(tries).toBe(1);
    tries = 0;
    await calls.search(search, { idempotent: true });
    expect(tries).toBe(2);
  });

  it('say who was lost in the middle, and not how', async () => {
    const { calls } = await caller();
    const arrived = Promise.withResolvers<void>();
    const { server } = await instance('dying', () => {
      arrived.resolve();
      return new Promise(() => undefined);
    });
    const lost = expect(calls.search(search)).rejects.toMatchObject({
      kind: 'Unavailable',
      message: 'registry-proxy went away before it answered',
    });
    await arrived.promise;
    await server.shutdown(0);
    await lost;
  });

  it('leave an instance that falls silent, when that is safe', async () => {
    const { calls, discovery } = await caller();
    const asked: string[] = [];
    const silent = await instance('silent', () => {
      asked.push('silent');
      return new Promise(() => undefined);
    });
    const answer = calls.search(search, { idempotent: true });
    const act = expect(calls.search(search, { deadlineMs: 8_000 })).rejects.toMatchObject({ kind: 'DeadlineExceeded' });
    await waitFor(() => asked.length === 2, { what: 'both calls to be there' });
    let answered = 0;
    await instance('other', async ({ term }) => {
      if (term === 'prompt') await pause(300);
      answered++;
      return { resultsJson: Buffer.from('other') };
    });
    await waitFor(() => discovery.instances('registry-proxy').length === 2, { what: 'two instances' });
    let isOver = false;
    const prompt = (async () => {
      let calledOther = 0;
      for (; !isOver; calledOther++) await calls.search({ ...search, term: 'prompt' }, { idempotent: true, instance: 'other' });
      return calledOther;
    })();
    // As a stopped process does: it says nothing any more, not even that it leaves.
    silent.health.addCheck('hangs', () => new Promise(() => undefined));
    const began = performance.now();
    expect(Buffer.from((await answer).resultsJson).toString()).toBe('other');
    expect(performance.now() - began).toBeLessThan(7_000);
    isOver = true;
    // Those that another one answers soon are not asked anew.
    expect(await prompt).toBe(answered - 1);
    await act;
    expect(asked.length).toBe(2);
  });

  it('keep the instances they know while their own beats do not come back', async () => {
    const { discovery } = await instance('deaf', echo('deaf'));
    await instance('other', echo('other'));
    await waitFor(() => discovery.instances('registry-proxy').length === 2, { what: 'two instances' });
    process.kill(nats.process.pid, 'SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 6_000));
    expect(buses.every((made) => made.connected)).toBe(true);
    expect(discovery.instances('registry-proxy').length).toBe(2);
    process.kill(nats.process.pid, 'SIGCONT');
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(discovery.instances('registry-proxy').length).toBe(2);
  });

  it('survive a restart of nats-server with the instances they know', async () => {
    const { calls } = await caller();
    await instance('stay', echo('stay'));
    await calls.search(search);
    await nats.stop();
    const again = await startNats({ port: nats.port });
    nats = again;
    expect(Buffer.from((await calls.search(search)).resultsJson).toString()).toBe('stay');
    await waitFor(() => buses.every((made) => made.connected), { what: 'reconnect' });
    expect(Buffer.from((await calls.search(search)).resultsJson).toString()).toBe('stay');
  });

  it('carry the request id', async () => {
    const { calls } = await caller();
    await instance('id', async () => ({ resultsJson: Buffer.from(currentRequest()?.requestId ?? '') }));
    const answer = await runWithRequest({ requestId: 'abc123' }, () => calls.search(search));
    expect(Buffer.from(answer.resultsJson).toString()).toBe('abc123');
  });

  it('tell a handler when its caller has left a stream', async () => {
    const health = new Health();
    const server = new GrpcServer({ logger, health });
    const left = Promise.withResolvers<void>();
    const unused = async (): Promise<never> => {
      throw new Unavailable('unused');
    };
    const handlers = Object.fromEntries(Object.keys(ContainersService).map((name) => [name, unused])) as unknown as Handlers<
      typeof ContainersService
    >;
    server.add(ContainersService, {
      ...handlers,
      wait: async function* (_request, call) {
        yield { result: undefined };
        await new Promise<void>((resolve) => call.signal.addEventListener('abort', () => resolve()));
        left.resolve();
      },
    });
    const grpcAddress = `unix:${folder}/stream.sock`;
    await server.listen(grpcAddress);
    const discovery = new Discovery({ bus: await bus() });
    discovery.announce({ service: 'container-service', instance: 's', pid: 1, grpcAddress, httpAddress: '', version: '0' }, health);
    stops.push(
      () => discovery.stop(),
      () => server.shutdown(100),
    );
    const abort = new AbortController();
    const waiting = async (): Promise<void> => {
      const calls = serviceCalls(ContainersService, 'container-service', discovery);
      for await (const _ of calls.wait({ container: 'x', condition: WaitCondition.NOT_RUNNING }, { signal: abort.signal })) abort.abort();
    };
    await expect(waiting()).rejects.toMatchObject({ kind: 'Cancelled' });
    await left.promise;
  });
});
