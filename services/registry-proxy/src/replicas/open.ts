/** Makes a proxy one of several that keep their files apart. */
import { createHmac, randomBytes } from 'node:crypto';
import { InvalidParameter } from '@flotilla/errors';
import type { RedisTarget } from '@flotilla/records/redisClient';
import type { Logger } from '@flotilla/service-kit';
import type { StandaloneSettings } from '../config.ts';
import { Transport, type TransportSettings } from '../upstream/transport.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { Fleet } from './fleet.ts';
import { Leases } from './lease.ts';
import { OwnHome } from './ownHome.ts';
import { ReplicaStore } from './redis.ts';
import { Roll } from './roll.ts';

export interface ReplicaOptions {
  /** Redis that the replicas share. */
  readonly redis: RedisTarget & { readonly engineId: string };
  /** `http://10.0.0.2:5000`, where other replicas reach this one. */
  readonly url: string;
  /** PEM of the listener's certificate at the moment. */
  readonly certificate: () => string | undefined;
}

export interface Replicas {
  readonly fleet: Fleet;
  readonly roll: Roll;
  close(): Promise<void>;
}

const connectionsPerReplica = 256;

/** Undefined without a Redis to share. @throws InvalidParameter when nobody could reach us at the address, or know of it. */
export function replicaOptions(settings: StandaloneSettings, certificate: () => string | undefined): ReplicaOptions | undefined {
  const url = settings.FLOTILLA_REDIS_URL;
  const advertised = settings.FLOTILLA_REGISTRY_ADVERTISE;
  if (url === '') {
    if (advertised !== '') throw new InvalidParameter(`nobody asks for a replica at ${advertised}: it shares no Redis (REDIS_URL)`);
    return undefined;
  }
  const address = advertised || settings.FLOTILLA_HTTP_ADDRESS;
  if (/^(?:unix:|0\.0\.0\.0:|\[::\]:)/.test(address)) {
    throw new InvalidParameter(`other replicas cannot reach ${address}: say where they can (--advertise HOST:PORT)`);
  }
  return {
    redis: {
      url,
      user: settings.FLOTILLA_REDIS_USER,
      password: settings.FLOTILLA_REDIS_PASSWORD,
      tls: settings.FLOTILLA_REDIS_TLS,
      engineId: settings.FLOTILLA_ENGINE_ID,
    },
    url: `${settings.FLOTILLA_REGISTRY_TLS_CERTIFICATE === '' ? 'http' : 'https'}://${address}`,
    // The first of the file is the listener's own; those after it have signed it, and others too.
    certificate: () => /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/.exec(certificate() ?? '')?.[0],
  };
}

export interface ReplicaParts {
  readonly root: string;
  /** That of the data root, by which replicas on one root are known. */
  readonly secret: Buffer;
  /** Signs the places of uploads. */
  readonly uploadKey: Buffer;
  readonly hasRepositories: () => Promise<boolean>;
  readonly upstream: Pick<Upstream, 'request'>;
  readonly transport: TransportSettings;
  readonly logger: Logger;
}

export async function openReplicas(options: ReplicaOptions, parts: ReplicaParts): Promise<Replicas> {
  const { root, upstream, logger, secret, hasRepositories } = parts;
  const store = new ReplicaStore(options.redis);
  const self = {
    id: randomBytes(8).toString('hex'),
    store: createHmac('sha256', secret).update('data root').digest('hex').slice(0, 16),
    url: options.url,
    token: randomBytes(24).toString('base64url'),
    uploadKey: parts.uploadKey.toString('base64url'),
  };
  const home = await OwnHome.open({ root, store: self.store, hasRepositories, logger });
  const roll = new Roll({ store, self, home, certificate: options.certificate, logger, onGone: (id) => fleet.onGone(id) });
  // Replicas are neighbours: no HTTP proxy is between them.
  const sender = new Transport({ ...parts.transport, environment: {}, maxConnectionsPerHost: connectionsPerReplica });
  const fleet = new Fleet({ upstream, roll, sender, leases: new Leases({ store, id: self.id, logger }) });
  return {
    fleet,
    roll,
    close: async () => {
      await roll.leave();
      sender.close();
      store.close();
    },
  };
}
