import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseChallenges } from './challenge.ts';

describe('parseChallenges', () => {
  const cases: [header: string, expected: unknown][] = [
    ['', []],
    ['Basic realm="a"', [{ scheme: 'basic', parameters: { realm: 'a' } }]],
    [
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
      [
        {
          scheme: 'bearer',
          parameters: { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:a/b:pull,push' },
        },
      ],
    ],
    [
      'Negotiate, Bearer realm=x , Basic realm="a, \\"b\\""',
      [
        { scheme: 'negotiate', parameters: {} },
        { scheme: 'bearer', parameters: { realm: 'x' } },
        { scheme: 'basic', parameters: { realm: 'a, "b"' } },
      ],
    ],
    ['Bearer REALM="a",realm="b"', [{ scheme: 'bearer', parameters: { realm: 'a' } }]],
    ['Bearer realm="never closed', [{ scheme: 'bearer', parameters: { realm: 'never closed' } }]],
  ];
  it.each(cases)('%s', (header, expected) => {
    expect(JSON.parse(JSON.stringify(parseChallenges(header)))).toEqual(expected);
  });

  it('comes to an end with anything', () => {
    fc.assert(fc.property(fc.string({ maxLength: 200 }), (header) => Array.isArray(parseChallenges(header))));
    expect(parseChallenges('x'.repeat(10_000))).toEqual([]);
    expect(parseChallenges(undefined)).toEqual([]);
  });
});
