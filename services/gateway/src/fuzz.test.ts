/** Broken and odd requests, from a seed: never a 5xx of our own making, never a hang, and the gateway answers afterwards. */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ask } from './testing/exchange.ts';
import { startTestGateway, type TestGateway } from './testing/testGateway.ts';

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway();
});
afterAll(() => gateway.stop());

const keys = [
  'Image',
  'Cmd',
  'Env',
  'HostConfig',
  'NetworkingConfig',
  'Mounts',
  'PortBindings',
  'EndpointsConfig',
  'Healthcheck',
  'Tty',
  '__proto__',
];
const document = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom(null, true, false, 0, -1, 1.5, 2 ** 63, '', 'x', '80/tcp'),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...keys), tie('value'), { maxKeys: 4 }),
  ),
})).value;
const bodies = fc.oneof(
  document.map((value) => JSON.stringify(value)),
  fc.string({ maxLength: 50 }),
  document.map((value) => JSON.stringify(value).slice(0, -1)),
);
const names = fc.oneof(
  fc.constantFrom('x', 'a/b', '%2e%2e', '..', '%00', '%ff', '%C3%A9', ''),
  fc.string({ maxLength: 8 }).map(encodeURIComponent),
);
const paths = fc.oneof(
  fc.constantFrom('/containers/create', '/networks/create', '/volumes/create', '/commit', '/auth', '/images/create', '/info', '/system/df'),
  fc
    .tuple(
      fc.constantFrom('containers', 'images', 'networks', 'volumes', 'exec', 'plugins', 'services', 'nope'),
      names,
      fc.constantFrom(
        '',
        '/json',
        '/start',
        '/stop',
        '/exec',
        '/update',
        '/connect',
        '/resize',
        '/logs',
        '/wait',
        '/archive',
        '/rename',
        '/tag',
      ),
    )
    .map(([group, name, act]) => `/${group}/${name}${act}`),
);
const queries = fc
  .array(
    fc.tuple(
      fc.constantFrom(
        'filters',
        'all',
        'limit',
        't',
        'h',
        'w',
        'since',
        'until',
        'tail',
        'stdout',
        'name',
        'path',
        'type',
        'condition',
        'platform',
      ),
      fc.oneof(fc.constantFrom('1', '-1', 'x', '', '{}', '[]', '{"a":1}', '{"label":["a"]}', '9'.repeat(40)), fc.string({ maxLength: 10 })),
    ),
    { maxLength: 4 },
  )
  .map((pairs) => new URLSearchParams(pairs).toString());
/** What a single engine says of swarm and of what it does not do. */
const honest = [501, 503];

it('answers every request, and blames its sender', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'HEAD'),
      fc.constantFrom('', '/v1.24', '/v1.41', '/v1.50', '/v1', '/v99.9'),
      paths,
      queries,
      bodies,
      fc.constantFrom('application/json', 'application/json; charset=utf-8', 'text/plain', ''),
      async (method, prefix, path, query, body, type) => {
        const headers: Record<string, string> = type === '' ? {} : { 'Content-Type': type };
        const withBody = method === 'POST' || method === 'PUT' ? { body } : {};
        const answer = await ask(gateway.socketPath, method, `${prefix}${path}?${query}`, { headers, ...withBody });
        if (answer.status >= 500) expect(honest, `${answer.status} ${answer.body}`).toContain(answer.status);
        if (answer.status >= 400 && method !== 'HEAD' && answer.body !== '')
          expect(JSON.parse(answer.body)).toEqual({ message: expect.any(String) });
      },
    ),
    { seed: 20261124, numRuns: 800, interruptAfterTimeLimit: 10_000 },
  );
  expect((await ask(gateway.socketPath, 'GET', '/_ping')).body).toBe('OK');
});
