/** How a server outside is connected to: how far it is trusted, who we are to it, how long it may take. */
import { createHash } from 'node:crypto';

export interface TlsIdentity {
  /** Tells connections of different identities apart. */
  readonly id: string;
  /** PEM of authorities that are trusted beside the system's. */
  readonly ca?: string;
  /** PEM of the certificate that we show, and its key. */
  readonly certificate?: string;
  readonly key?: string;
  /** PEM of the one certificate that is trusted, whatever name it bears. */
  readonly pinned?: string;
}

export interface TimeLimits {
  /** Milliseconds until a connection, with TLS, must stand. */
  readonly connectTimeoutMs: number;
  /** Milliseconds from the request's end to the answer's headers. */
  readonly headersTimeoutMs: number;
  /** Milliseconds without a byte after which a body counts as cut. */
  readonly bodyIdleTimeoutMs: number;
}

export interface Connection {
  /** Whether the certificate is checked. */
  readonly verifyTls: boolean;
  readonly tls?: TlsIdentity;
  /** Instead of the proxy's own limits. */
  readonly limits?: Partial<TimeLimits>;
}

/** Undefined when there is nothing in it. */
export function tlsIdentity(parts: Omit<TlsIdentity, 'id' | 'pinned'>): TlsIdentity | undefined {
  if (parts.ca === undefined && parts.certificate === undefined) return undefined;
  const id = createHash('sha256')
    .update(JSON.stringify([parts.ca, parts.certificate, parts.key]))
    .digest('hex');
  return { id, ...parts };
}

/** The part of an endpoint that a request needs. */
export function connectionOf({ verifyTls, tls, limits }: Connection): Connection {
  return { verifyTls, ...(tls === undefined ? {} : { tls }), ...(limits === undefined ? {} : { limits }) };
}

/** For a host that a server sends us on to: the same authorities count, but our certificate is not its business. */
export function strangersConnection({ tls, limits }: Connection): Connection {
  const trust = tls?.ca === undefined ? undefined : { id: `${tls.id} trust`, ca: tls.ca };
  return connectionOf({ verifyTls: true, ...(trust === undefined ? {} : { tls: trust }), ...(limits === undefined ? {} : { limits }) });
}
