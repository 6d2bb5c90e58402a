/** The configuration of a stack's own nats-server: loopback only, JetStream on, and what each service may say and hear. */
import type { Secrets } from './secrets.ts';
import { type ServiceName, serviceNames } from './services.ts';

const mebibyte = 1024 * 1024;

export interface NatsPermissions {
  readonly publish: readonly string[];
  readonly subscribe: readonly string[];
}

/** Types of the Engine API's events that a service may tell (proto/flotilla/events). */
const eventTypes: Readonly<Record<ServiceName, readonly string[]>> = {
  gateway: ['plugin'],
  'container-service': ['container', 'daemon'],
  'network-volume': ['network', 'volume'],
  'image-service': ['image', 'builder'],
  'registry-proxy': [],
};

/** JetStream's whole interface, for the services that keep streams; the gateway only reads, registry-proxy has none. */
const jetStream: Readonly<Record<ServiceName, readonly string[]>> = {
  gateway: [
    '$JS.API.INFO',
    '$JS.API.STREAM.INFO.*',
    '$JS.API.STREAM.NAMES',
    '$JS.API.STREAM.CREATE.*',
    '$JS.API.STREAM.UPDATE.*',
    '$JS.API.STREAM.MSG.GET.*',
    '$JS.API.DIRECT.GET.>',
    '$JS.API.CONSUMER.>',
    '$JS.ACK.>',
    '$JS.FC.>',
  ],
  'container-service': ['$JS.API.>', '$JS.ACK.>', '$JS.FC.>'],
  'network-volume': ['$JS.API.>', '$JS.ACK.>', '$JS.FC.>', '$KV.>'],
  'image-service': ['$JS.API.>', '$JS.ACK.>', '$JS.FC.>'],
  'registry-proxy': [],
};

/** Subjects are `flotilla.<engine-id>.<area>…`; a service tells its own beat, its own events and its own notices, and hears its stack's. */
export function natsPermissions(engineId: string, service: ServiceName): NatsPermissions {
  const own = `flotilla.${engineId}`;
  return {
    publish: [
      `${own}.who`,
      `${own}.beat.${service}`,
      `${own}.${service}.>`,
      ...eventTypes[service].map((type) => `${own}.events.${type}`),
      ...jetStream[service],
    ],
    subscribe: [`${own}.>`, '_INBOX.>', ...(service === 'network-volume' ? ['$KV.>', 'flotilla.overlay.>'] : [])],
  };
}

/** nats-server reads JSON as a form of its own syntax. */
export function natsConfig(options: { port: number; store: string; engineId: string; secrets: Secrets }): string {
  const users = serviceNames.map((name) => {
    const permissions = natsPermissions(options.engineId, name);
    return {
      user: name,
      password: options.secrets[name].nats,
      // No allow_responses: nobody answers requests, and the server would keep each message's reply subject for two minutes and, from 4096 on, look through all
      // of them at every message. `events --since` of ten thousand events did not come to its end.
      permissions: { publish: { allow: permissions.publish }, subscribe: { allow: permissions.subscribe } },
    };
  });
  const document = {
    listen: `127.0.0.1:${options.port}`,
    server_name: `flotilla-${options.engineId}`,
    jetstream: { store_dir: options.store, max_memory_store: 16 * mebibyte, max_file_store: 1024 * mebibyte },
    max_payload: 4 * mebibyte,
    max_connections: 512,
    write_deadline: '5s',
    authorization: { users },
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
