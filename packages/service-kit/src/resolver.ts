/** A grpc-js resolver that turns `flotilla:<authority>/<service>` into the addresses Discovery knows, whenever they change. */
import { experimental, Metadata, status } from '@grpc/grpc-js';
import type { Discovery } from './discovery.ts';

const scheme = 'flotilla';

/** Which Discovery answers for an authority: registerResolver is global by grpc-js' design, so instances are told by name. */
const discoveries = new Map<string, Discovery>();
let registered = false;

/** The target string to give a channel, so that its calls go round the live instances of `service`. */
export function discoveryTarget(discovery: Discovery, service: string): string {
  let authority = [...discoveries].find(([, known]) => known === discovery)?.[0];
  if (authority === undefined) {
    authority = `d${discoveries.size}`;
    discoveries.set(authority, discovery);
  }
  if (!registered) {
    registered = true;
    experimental.registerResolver(scheme, DiscoveryResolver);
  }
  return `${scheme}:${authority}/${service}`;
}

/** `unix:/path` or `host:port` as grpc-js wants it. */
export function subchannelAddress(address: string): experimental.SubchannelAddress {
  if (address.startsWith('unix:')) return { path: address.slice('unix:'.length) };
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) };
}

class DiscoveryResolver implements experimental.Resolver {
  private readonly discovery: Discovery | undefined;
  private readonly service: string;
  private readonly listener: experimental.ResolverListener;
  private unsubscribe: (() => void) | undefined;

  constructor(target: experimental.GrpcUri, listener: experimental.ResolverListener) {
    const [authority, service] = target.path.split('/');
    this.discovery = discoveries.get(authority ?? '');
    this.service = service ?? '';
    this.listener = listener;
  }

  /**
   * grpc-js asks again whenever a connection fails. Changes are pushed as they happen, so only the first question is answered: answering each
   * one at once makes the balancer ask at once, for ever.
   */
  updateResolution(): void {
    if (this.unsubscribe !== undefined) return;
    this.unsubscribe = this.discovery?.onChange((service) => {
      if (service === this.service) this.answer();
    });
    process.nextTick(() => this.answer());
  }

  destroy(): void {
    this.unsubscribe?.();
    this.unsubscribe = undefined;
  }

  private answer(): void {
    if (this.unsubscribe === undefined) return;
    const addresses = (this.discovery?.instances(this.service) ?? []).map((beat) => beat.grpcAddress).filter((address) => address !== '');
    const endpoints =
      addresses.length > 0
        ? experimental.statusOrFromValue(addresses.map((address) => ({ addresses: [subchannelAddress(address)] })))
        : experimental.statusOrFromError<experimental.Endpoint[]>({
            code: status.UNAVAILABLE,
            details: `no instance of ${this.service} is there`,
            metadata: new Metadata(),
          });
    this.listener(endpoints, {}, null, '');
  }

  /** Goes into `:authority`, where an HTTP/2 server takes a host name and nothing with a slash. */
  static getDefaultAuthority(): string {
    return 'localhost';
  }
}
