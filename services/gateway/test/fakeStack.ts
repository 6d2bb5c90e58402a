/** A gateway over real NATS and real gRPC, with services that a test makes up as it needs them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContainersService, ExecsService } from '@flotilla/contracts/flotilla/container/v1/containers';
import { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { ImagesService } from '@flotilla/contracts/flotilla/image/v1/images';
import { NetworksService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { NotImplemented } from '@flotilla/errors';
import { Bus, createLogger, type Definition, Discovery, GrpcServer, type Handlers, Health } from '@flotilla/service-kit';
import { TicketServer } from '@flotilla/streams';
import { startNats } from '@flotilla/testkit';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { start } from '../src/main.ts';

export interface FakeServices {
  containers?: Partial<Handlers<typeof ContainersService>>;
  execs?: Partial<Handlers<typeof ExecsService>>;
  images?: Partial<Handlers<typeof ImagesService>>;
  networks?: Partial<Handlers<typeof NetworksService>>;
  volumes?: Partial<Handlers<typeof VolumesService>>;
  registries?: Partial<Handlers<typeof RegistriesService>>;
}

export interface FakeStack {
  readonly socketPath: string;
  /** what issues the streams that fakes promise */
  readonly tickets: TicketServer;
  /** replaced by a test at any time */
  readonly services: FakeServices;
  publish(event: Partial<Event>): Promise<void>;
  stop(): Promise<void>;
}

const engineId = 'test-engine';

/** One for the tests of a file; each begins without services. It is there when the first test runs. */
export function useFakeStack(): FakeStack {
  const stack = {} as FakeStack;
  beforeAll(async () => {
    Object.assign(stack, await startFakeStack());
  });
  afterAll(() => stack.stop());
  beforeEach(() => {
    for (const key of Object.keys(stack.services)) delete (stack.services as Record<string, unknown>)[key];
  });
  return stack;
}

async function startFakeStack(): Promise<FakeStack> {
  const directory = mkdtempSync(join(tmpdir(), 'flotilla-gateway-'));
  const nats = await startNats();
  const logger = createLogger({ service: 'fakes', instance: 'test', level: 'silent' });
  const bus = await Bus.connect({ url: nats.url, engineId, name: 'fakes', logger });
  const tickets = new TicketServer({ address: `unix:${directory}/stream.sock`, logger });
  await tickets.listen();
  const services: FakeServices = {};
  const health = new Health();
  const server = new GrpcServer({ logger, health });
  server.add(
    ContainersService,
    late(ContainersService, () => services.containers),
  );
  server.add(
    ExecsService,
    late(ExecsService, () => services.execs),
  );
  server.add(
    ImagesService,
    late(ImagesService, () => services.images),
  );
  server.add(
    NetworksService,
    late(NetworksService, () => services.networks),
  );
  server.add(
    VolumesService,
    late(VolumesService, () => services.volumes),
  );
  server.add(
    RegistriesService,
    late(RegistriesService, () => services.registries),
  );
  const grpcAddress = `unix:${directory}/grpc.sock`;
  await server.listen(grpcAddress);
  const discoveries = ['container-service', 'image-service', 'network-volume', 'registry-proxy'].map((service) => {
    const discovery = new Discovery({ bus });
    discovery.announce({ service, instance: `${service}-1`, pid: process.pid, grpcAddress, httpAddress: '', version: 'test' }, health);
    return discovery;
  });
  const socketPath = join(directory, 'docker.sock');
  const gateway = await start({
    FLOTILLA_ENGINE_ID: engineId,
    FLOTILLA_NATS_URL: nats.url,
    FLOTILLA_LISTEN: `unix:${socketPath}`,
    FLOTILLA_LOG_LEVEL: process.env.FLOTILLA_LOG_LEVEL ?? 'silent',
  });
  return {
    socketPath,
    tickets,
    services,
    async publish(event) {
      const whole = Event.fromPartial({ timeNano: BigInt(Date.now()) * 1_000_000n, ...event });
      await bus.connection.jetstream().publish(bus.subject('events', whole.type), Event.encode(whole).finish());
    },
    async stop() {
      await gateway.lifecycle.stop();
      for (const discovery of discoveries) await discovery.stop();
      await server.shutdown(500);
      await tickets.close(500);
      await bus.close();
      await nats.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Handlers looked up at each call; what a test did not make is not implemented. */
function late<D extends Definition>(definition: D, current: () => Partial<Handlers<D>> | undefined): Handlers<D> {
  const handlers: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(definition)) {
    const find = (): ((...args: unknown[]) => unknown) => {
      const handler = (current() as Record<string, unknown> | undefined)?.[name];
      if (typeof handler !== 'function') throw new NotImplemented(`the test has no ${name}`);
      return handler as (...args: unknown[]) => unknown;
    };
    handlers[name] = method.responseStream
      ? async function* (...args: unknown[]) {
          yield* find()(...args) as AsyncIterable<unknown>;
        }
      : async (...args: unknown[]) => find()(...args);
  }
  return handlers as Handlers<D>;
}
