/**
 * Network failures in the words of Go's net and crypto/tls packages: what dockerd shows a user when a registry cannot be reached, and what
 * people search for.
 */
import { errorMessage } from '@flotilla/errors';

/** A time limit of ours that passed; `phase` says while doing what. */
export class UpstreamTimeout extends Error {
  override readonly name = 'UpstreamTimeout';
  readonly phase: 'connect' | 'headers' | 'body';

  constructor(phase: 'connect' | 'headers' | 'body') {
    super(`time-out (${phase})`);
    this.phase = phase;
  }
}

interface SystemError {
  readonly code?: string;
  readonly address?: string;
  readonly port?: number;
  readonly hostname?: string;
}

const connectTroubles: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connect: connection refused',
  ENETUNREACH: 'connect: network is unreachable',
  EHOSTUNREACH: 'connect: no route to host',
  EADDRNOTAVAIL: 'connect: cannot assign requested address',
  EACCES: 'connect: permission denied',
  ETIMEDOUT: 'i/o timeout',
};

const certificateTroubles: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'x509: certificate has expired or is not yet valid',
  CERT_NOT_YET_VALID: 'x509: certificate has expired or is not yet valid',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'x509: certificate signed by unknown authority',
  SELF_SIGNED_CERT_IN_CHAIN: 'x509: certificate signed by unknown authority',
  UNABLE_TO_GET_ISSUER_CERT: 'x509: certificate signed by unknown authority',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'x509: certificate signed by unknown authority',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'x509: certificate signed by unknown authority',
};

/** The first of several attempts (IPv6 and IPv4) is the one Go reports. */
function systemError(error: unknown): SystemError {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  return typeof first === 'object' && first !== null ? (first as SystemError) : {};
}

function joinHostPort(address: string | undefined, port: number | undefined): string {
  if (address === undefined) return '';
  return ` ${address.includes(':') ? `[${address}]` : address}:${port ?? 0}`;
}

/** What Go says of a failed request: `dial tcp 127.0.0.1:1: connect: connection refused`. */
export function goErrorText(error: unknown, host: string): string {
  if (error instanceof UpstreamTimeout) return timeoutText(error);
  const { code = '', address, port, hostname } = systemError(error);
  const connect = connectTroubles[code];
  if (connect !== undefined) return `dial tcp${joinHostPort(address, port)}: ${connect}`;
  const certificate = certificateTroubles[code];
  if (certificate !== undefined) return `tls: failed to verify certificate: ${certificate}`;
  switch (code) {
    case 'ENOTFOUND':
      return `dial tcp: lookup ${hostname ?? host}: no such host`;
    case 'EAI_AGAIN':
      return `dial tcp: lookup ${hostname ?? host}: Temporary failure in name resolution`;
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `tls: failed to verify certificate: x509: certificate is not valid for ${host}`;
    case 'ECONNRESET':
    case 'HPE_INVALID_EOF_STATE':
      return 'EOF';
    case 'EPIPE':
      return 'write: broken pipe';
    case 'EPROTO':
      return 'http: server gave HTTP response to HTTPS client';
    default:
      if (code.startsWith('HPE_')) return 'net/http: HTTP/1.x transport connection broken: malformed HTTP response';
      if (code.startsWith('ERR_SSL_'))
        return isPlainHttpAnswer(code) ? 'http: server gave HTTP response to HTTPS client' : `tls: ${errorMessage(error)}`;
      return errorMessage(error);
  }
}

/** What TLS makes of a peer that answers in plain HTTP. */
function isPlainHttpAnswer(code: string): boolean {
  return code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG' || code === 'ERR_SSL_HTTP_REQUEST';
}

function timeoutText(error: UpstreamTimeout): string {
  switch (error.phase) {
    case 'connect':
      return 'net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)';
    case 'headers':
      return 'net/http: request canceled (Client.Timeout exceeded while awaiting headers)';
    case 'body':
      return 'net/http: request canceled (Client.Timeout or context cancellation while reading body)';
  }
}
