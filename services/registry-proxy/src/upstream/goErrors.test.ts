import { describe, expect, it } from 'vitest';
import { goErrorText, UpstreamTimeout } from './goErrors.ts';

const failure = (fields: object): Error => Object.assign(new Error('x'), fields);

describe('goErrorText', () => {
  const cases: [error: Error, text: string][] = [
    [failure({ code: 'ECONNREFUSED', address: '127.0.0.1', port: 1 }), 'dial tcp 127.0.0.1:1: connect: connection refused'],
    [failure({ code: 'ECONNREFUSED', address: '::1', port: 5000 }), 'dial tcp [::1]:5000: connect: connection refused'],
    [
      new AggregateError([
        failure({ code: 'ECONNREFUSED', address: '::1', port: 2 }),
        failure({ code: 'ECONNREFUSED', address: '127.0.0.1', port: 2 }),
      ]),
      'dial tcp [::1]:2: connect: connection refused',
    ],
    [failure({ code: 'ENOTFOUND', hostname: 'a.invalid' }), 'dial tcp: lookup a.invalid: no such host'],
    [failure({ code: 'EHOSTUNREACH', address: '10.0.0.1', port: 443 }), 'dial tcp 10.0.0.1:443: connect: no route to host'],
    [failure({ code: 'DEPTH_ZERO_SELF_SIGNED_CERT' }), 'tls: failed to verify certificate: x509: certificate signed by unknown authority'],
    [failure({ code: 'CERT_HAS_EXPIRED' }), 'tls: failed to verify certificate: x509: certificate has expired or is not yet valid'],
    [failure({ code: 'ERR_SSL_WRONG_VERSION_NUMBER' }), 'http: server gave HTTP response to HTTPS client'],
    [failure({ code: 'ECONNRESET' }), 'EOF'],
    [new UpstreamTimeout('headers'), 'net/http: request canceled (Client.Timeout exceeded while awaiting headers)'],
    [new Error('something else'), 'something else'],
  ];
  it.each(cases)('%s', (error, text) => {
    expect(goErrorText(error, 'host')).toBe(text);
  });
});
