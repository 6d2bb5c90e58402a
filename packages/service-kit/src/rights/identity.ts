/** Who asks: told by the kernel on a unix socket, by the certificate on TLS. Travels with a request to every service that works for it. */

export interface Identity {
  /** `user` by SO_PEERCRED, `certificate` by its common name, `address` for plain tcp, where nobody is known. */
  readonly kind: 'user' | 'certificate' | 'address';
  /** User name (or uid in digits), common name, or address. */
  readonly name: string;
  readonly uid?: number;
}

/** For gRPC metadata, which takes ASCII only. */
export function encodeIdentity(identity: Identity): string {
  return encodeURIComponent(JSON.stringify(identity));
}

/** Undefined when it is not one. */
export function decodeIdentity(text: string): Identity | undefined {
  try {
    const { kind, name, uid } = JSON.parse(decodeURIComponent(text)) as Partial<Identity>;
    if ((kind !== 'user' && kind !== 'certificate' && kind !== 'address') || typeof name !== 'string') return undefined;
    return { kind, name, ...(typeof uid === 'number' ? { uid } : {}) };
  } catch {
    return undefined;
  }
}

/** As a person reads it: `user alice`. */
export function describeIdentity(identity: Identity): string {
  return `${identity.kind} ${identity.name}`;
}
