/** The whole application on a socket, with fake services and no events: for tests of the routes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { createLogger, engineOptions } from '@flotilla/service-kit';
import { TicketServer } from '@flotilla/streams';
import { createApplication } from '../application.ts';
import { BuildKitDoor } from '../buildkitDoor.ts';
import { Metrics } from '../metrics.ts';
import { dispatch } from '../middleware/dispatch.ts';
import { ReadCopies } from '../readCopies.ts';
import { createGatewayServer, listen, type TlsMaterial } from '../server.ts';
import { readHost } from '../system/host.ts';
import { systemInfo } from '../system/info.ts';
import { VersionDocument } from '../system/version.ts';
import { FakeBackends } from './fakeBackends.ts';

export interface TestGateway {
  readonly socketPath: string;
  readonly backends: FakeBackends;
  readonly tickets: TicketServer;
  stop(): Promise<void>;
}

const noCopies = (): ReadCopies => new ReadCopies({ markPaths: [() => undefined] });

export async function startTestGateway(tls?: TlsMaterial): Promise<TestGateway> {
  const directory = mkdtempSync(join(tmpdir(), 'flotilla-gateway-unit-'));
  const logger = createLogger({ service: 'gateway', instance: 'test', level: 'silent' });
  const tickets = new TicketServer({ address: `unix:${directory}/stream.sock`, logger });
  await tickets.listen();
  const backends = new FakeBackends(tickets);
  const host = readHost();
  const version = new VersionDocument(host);
  const application = createApplication({
    backends,
    buildkitDoor: new BuildKitDoor({ buildkit: backends.buildkit, home: () => undefined }),
    copies: { containers: noCopies(), containerLists: noCopies(), images: noCopies() },
    events: { follow: async () => nothing(), followerCount: 0 },
    info: () =>
      systemInfo({ backends, host, engineId: 'test', dataRoot: '/data', engineOptions: engineOptions.parse({}), eventFollowers: () => 0 }),
    version: () => version.read(),
    distribution: { proxyAddress: () => undefined },
    cgroupV2: true,
    metrics: new Metrics({ backends, eventFollowers: () => 0 }),
    logger,
  });
  const server = createGatewayServer(dispatch(application), tls);
  const socketPath = join(directory, 'docker.sock');
  await listen(server, { path: socketPath });
  return {
    socketPath,
    backends,
    tickets,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await tickets.close(100);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function* nothing(): AsyncIterable<Event> {}
