/**
 * Who may use the proxy: anybody, those whose client certificate our authority has signed, or those with a name and a password. What changes
 * something (pushes, deletions, prefetch, pins, collection) may be kept for some of them.
 *
 * The header Authorization is the gate's own where it asks for passwords: it goes no further. Credentials for upstreams come in X-Registry-Auth.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { credentialsFromAuthorization } from '../credentials.ts';
import { DistributionError } from '../distributionError.ts';
import type { Htpasswd } from './htpasswd.ts';

export interface GateParts {
  readonly passwords: Htpasswd | undefined;
  /** Whether the listener asks for client certificates. */
  readonly certificates: boolean;
  /** Names that may change something; empty: whoever may enter. */
  readonly pushUsers: ReadonlySet<string>;
}

/** POSTs that change nothing. Named are these and not the others: a path that the router takes in another spelling must not slip through. */
const harmlessPosts = /^\/flotilla\/v1\/(?:login|search)$/;

export class Gate {
  private readonly parts: GateParts;

  constructor(parts: GateParts) {
    this.parts = parts;
  }

  /**
   * Lets a request in.
   *
   * @returns the client's name; undefined when nobody is asked for theirs.
   * @throws DistributionError UNAUTHORIZED, DENIED.
   */
  async admit(request: IncomingMessage): Promise<string | undefined> {
    const { passwords, certificates, pushUsers } = this.parts;
    if (passwords === undefined && !certificates) return undefined;
    const name = certificateName(request) ?? (await this.passwordName(request));
    if (name === undefined) {
      throw new DistributionError('UNAUTHORIZED', 'authentication required', { detail: null });
    }
    if (pushUsers.size > 0 && changes(request) && !pushUsers.has(name)) {
      throw new DistributionError('DENIED', 'requested access to the resource is denied', { detail: { name } });
    }
    return name;
  }

  private async passwordName(request: IncomingMessage): Promise<string | undefined> {
    const { passwords } = this.parts;
    if (passwords === undefined) return undefined;
    const given = credentialsFromAuthorization(request.headers.authorization);
    delete request.headers.authorization;
    if (given.kind !== 'password') return undefined;
    return (await passwords.isRight(given.username, given.password)) ? given.username : undefined;
  }
}

/** The name in a certificate that the authority has signed. */
function certificateName({ socket }: IncomingMessage): string | undefined {
  if (!('authorized' in socket) || !socket.authorized) return undefined;
  const { CN: name } = (socket as TLSSocket).getPeerCertificate().subject ?? {};
  return Array.isArray(name) ? name[0] : name;
}

function changes({ method, url = '' }: IncomingMessage): boolean {
  return method !== 'GET' && method !== 'HEAD' && !harmlessPosts.test(url);
}
