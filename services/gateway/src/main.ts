/** The gateway: Docker's Engine API in front, gRPC and streams behind. This file alone knows every concrete part. */
import { type Discovery, drainHttp, homeOf, type RunningService, runAsProcess, startService } from '@flotilla/service-kit';
import { createApplication } from './application.ts';
import { AuditLog } from './audit/auditLog.ts';
import { connectBackends } from './backends.ts';
import { BuildKitDoor, sameInstance } from './buildkitDoor.ts';
import { gatewaySettings } from './config.ts';
import { answerFromCopies, openCopies } from './copies.ts';
import { EventFeed } from './events/feed.ts';
import { HostDirectory } from './hosts/directory.ts';
import { HostRelay, withHosts } from './hosts/relay.ts';
import { listenEverywhere } from './listening.ts';
import { Metrics } from './metrics.ts';
import { dispatch } from './middleware/dispatch.ts';
import { guardAccess } from './rights/access.ts';
import { scopeBackends, scopeEvents } from './rights/scope.ts';
import { closeServer } from './server.ts';
import { readHost } from './system/host.ts';
import { systemInfo } from './system/info.ts';
import { VersionDocument } from './system/version.ts';

/** How long running requests may take to end when the gateway stops. Followers and attached clients are cut then. */
const drainMs = 5_000;

export async function start(env: NodeJS.ProcessEnv): Promise<RunningService> {
  return startService('gateway', gatewaySettings, env, async (kit) => {
    const { settings, logger, lifecycle, health, bus, discovery, workload, policy, tracer } = kit;
    const host = readHost();
    const everything = connectBackends(discovery);
    const backends = policy === undefined ? everything : scopeBackends(everything, policy);
    const events = new EventFeed({ bus, logger });
    lifecycle.onStop('event feed', () => events.stop());
    await events.start();
    health.addCheck('events', () => events.check());
    const version = new VersionDocument(host);
    const { auditLog, hostsFile, classicBuilder } = settings.FLOTILLA_ENGINE_OPTIONS;
    const hosts = hostsFile === undefined ? undefined : new HostRelay(HostDirectory.follow(hostsFile, logger));
    if (hosts !== undefined) lifecycle.onStop('other hosts', () => hosts.close());
    const copies = openCopies(discovery, policy);
    const home = (): string | undefined => homeOf(discovery, 'image-service', sameInstance.rendezvousKey)?.instance;
    const metrics = new Metrics({ backends, eventFollowers: () => events.followerCount });
    const application = createApplication({
      backends,
      buildkitDoor: new BuildKitDoor({ buildkit: backends.buildkit, home }),
      copies,
      metrics,
      events: policy === undefined ? events : scopeEvents(events, policy),
      info: () =>
        systemInfo({
          backends,
          host,
          engineId: settings.FLOTILLA_ENGINE_ID,
          dataRoot: settings.FLOTILLA_DATA_ROOT,
          engineOptions: settings.FLOTILLA_ENGINE_OPTIONS,
          eventFollowers: () => events.followerCount,
        }),
      version: () => version.read(),
      distribution: { proxyAddress: eachProxyInTurn(discovery) },
      cgroupV2: host.cgroupV2,
      ...(hosts === undefined ? {} : { hosts }),
      logger,
    });
    const audit = auditLog === undefined ? undefined : new AuditLog(auditLog, logger);
    if (audit !== undefined) lifecycle.onStop('audit log', () => audit.close());
    const guarded = guardAccess(hosts === undefined ? application : withHosts(hosts, application), {
      policy,
      audit,
      maxRequests: settings.FLOTILLA_MAX_REQUESTS,
    });
    // Who looks at every request is not passed by.
    const isWatched = policy !== undefined || audit !== undefined || tracer !== undefined;
    const answerAtOnce = isWatched ? undefined : answerFromCopies(copies, metrics);
    const servers = await listenEverywhere(settings, dispatch(guarded, { answerAtOnce, tracer, classicBuilder }), logger);
    for (const server of servers) {
      workload.countRequests(server);
      lifecycle.onDrain(drainHttp('http server', server));
    }
    lifecycle.onStop('http servers', async () => {
      await Promise.all(servers.map((server) => closeServer(server, drainMs)));
    });
  });
}

/** Where the Distribution API is: of several proxies each in its turn. */
function eachProxyInTurn(discovery: Discovery): () => string | undefined {
  let turn = 0;
  return () => {
    const addresses = discovery.instances('registry-proxy').flatMap((beat) => (beat.httpAddress === '' ? [] : [beat.httpAddress]));
    return addresses[turn++ % Math.max(1, addresses.length)];
  };
}

if (import.meta.main) await runAsProcess(start);
