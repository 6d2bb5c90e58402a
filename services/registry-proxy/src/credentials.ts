/**
 * Who a request to an upstream is made for. Credentials live as long as their request; what outlives it is a keyed hash that tells two
 * users apart and gives nothing away.
 */
import { createHmac } from 'node:crypto';
import { type AuthConfig, authConfig, decodeDocument } from '@flotilla/engine-api';

export type Credentials =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth2 refresh token that a log-in gave. */
  | { readonly kind: 'identityToken'; readonly token: string }
  /** A bearer token to use as it is. */
  | { readonly kind: 'registryToken'; readonly token: string };

export const anonymous: Credentials = { kind: 'anonymous' };

const maxHeaderLength = 16 * 1024;

/**
 * Reads the header X-Registry-Auth: base64url of an AuthConfig; padding and plain base64 are taken as well. Whoever sends anything else is nobody, as for dockerd:
 * there are clients that send the header whether they have credentials or not.
 */
export function credentialsFromHeader(header: string | undefined): Credentials {
  if (header === undefined || header === '') return anonymous;
  if (header.length > maxHeaderLength || !/^[A-Za-z0-9+/_-]+={0,2}$/.test(header)) return anonymous;
  try {
    const document = Buffer.from(header, 'base64url').toString('utf8');
    return credentialsFromAuthConfig(decodeDocument(authConfig, document) ?? {});
  } catch {
    return anonymous;
  }
}

/** The same as a header: `''` for nobody's. */
export function credentialsHeader(credentials: Credentials): string {
  if (credentials.kind === 'anonymous') return '';
  const config =
    credentials.kind === 'password'
      ? { username: credentials.username, password: credentials.password }
      : credentials.kind === 'identityToken'
        ? { identitytoken: credentials.token }
        : { registrytoken: credentials.token };
  return Buffer.from(JSON.stringify(config)).toString('base64url');
}

/** Reads `Authorization: Basic …`, which podman and containerd send to a mirror they have credentials for. */
export function credentialsFromAuthorization(header: string | undefined): Credentials {
  const encoded = /^basic +([A-Za-z0-9+/=_-]+)$/i.exec(header ?? '')?.[1];
  if (encoded === undefined) return anonymous;
  return passwordPair(encoded) ?? anonymous;
}

export function credentialsFromAuthConfig(config: AuthConfig): Credentials {
  if (config.registrytoken) return { kind: 'registryToken', token: config.registrytoken };
  if (config.identitytoken) return { kind: 'identityToken', token: config.identitytoken };
  if (config.username) return { kind: 'password', username: config.username, password: config.password ?? '' };
  return (config.auth ? passwordPair(config.auth) : undefined) ?? anonymous;
}

function passwordPair(encoded: string): Credentials | undefined {
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon <= 0) return undefined;
  return { kind: 'password', username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/** A name for these credentials that cannot be turned back into them without the proxy's secret. */
export function credentialsKey(credentials: Credentials, secret: Buffer): string {
  if (credentials.kind === 'anonymous') return 'anonymous';
  const parts = credentials.kind === 'password' ? [credentials.username, credentials.password] : [credentials.token];
  return createHmac('sha256', secret)
    .update(JSON.stringify([credentials.kind, ...parts]))
    .digest('hex');
}
