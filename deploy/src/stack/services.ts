/** The five services: who each runs as, who may dial it, and the order in which they stop. */

export type ServiceName = 'gateway' | 'container-service' | 'network-volume' | 'image-service' | 'registry-proxy';
/** What a stack starts besides its services. */
export type EngineName = 'redis' | 'nats';
/** All five services in one process. */
export const compactName = 'compact';
export type ProcessName = ServiceName | EngineName | typeof compactName;

export interface ServiceDefinition {
  readonly name: ServiceName;
  /** The unprivileged user it runs as; undefined: root, for it mounts, makes namespaces, or writes layers with their owners. */
  readonly account: string | undefined;
  /** It gets the engine's listening sockets. */
  readonly listens: boolean;
  /** It serves the Distribution API over HTTP. */
  readonly servesHttp: boolean;
}

/**
 * In the order they stop: whoever asks first, then whoever is asked. The group of a service's sockets is the gateway's (root needs no group), so that
 * registry-proxy, which speaks to the outside, can dial no other service.
 */
export const services: readonly ServiceDefinition[] = [
  { name: 'gateway', account: 'flotilla-gateway', listens: true, servesHttp: false },
  { name: 'container-service', account: undefined, listens: false, servesHttp: false },
  { name: 'network-volume', account: undefined, listens: false, servesHttp: false },
  { name: 'image-service', account: undefined, listens: false, servesHttp: false },
  { name: 'registry-proxy', account: 'flotilla-registry', listens: false, servesHttp: true },
];

export const serviceNames: readonly ServiceName[] = services.map((service) => service.name);

export function isServiceName(text: string): text is ServiceName {
  return serviceNames.some((name) => name === text);
}
