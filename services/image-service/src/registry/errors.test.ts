import { parseReference } from '@flotilla/oci';
import { describe, expect, it } from 'vitest';
import { RegistryError } from './distribution.ts';
import { pullError } from './errors.ts';

describe('pull errors', () => {
  const reference = parseReference('localhost:5000/x:nope');
  const cases: [code: string, message: string, status: number, kind: string, text: string][] = [
    [
      'MANIFEST_UNKNOWN',
      'manifest unknown',
      404,
      'NotFound',
      'manifest for localhost:5000/x:nope not found: manifest unknown: manifest unknown',
    ],
    [
      'NAME_UNKNOWN',
      'repository name not known to registry',
      404,
      'NotFound',
      'repository localhost:5000/x not found: name unknown: repository name not known to registry',
    ],
    [
      'DENIED',
      'requested access to the resource is denied',
      403,
      'NotFound',
      "pull access denied for localhost:5000/x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
    ],
    ['UNAUTHORIZED', 'authentication required', 401, 'Unauthorized', 'unauthorized: authentication required'],
    ['TOOMANYREQUESTS', 'slow down', 429, 'ResourceExhausted', 'toomanyrequests: slow down'],
    [
      'UNAVAILABLE',
      'Get "http://localhost:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
      502,
      'System',
      'Get "http://localhost:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
    ],
  ];
  it.each(cases)('%s', (code, message, status, kind, text) => {
    expect(pullError(new RegistryError(message, { code, status }), reference)).toMatchObject({ kind, message: text });
  });
});
