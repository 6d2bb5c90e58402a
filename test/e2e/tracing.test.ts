/** One id from the client's call to the last service's log line: the request id, and the trace that the client is part of (W3C trace context). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack({ stack: { args: ['--log-level', 'debug'] } });

interface Line {
  readonly service: string;
  readonly method?: string;
  readonly requestId?: string;
  readonly traceId?: string;
}

/** What a service has logged for a trace. */
function linesOf(service: string, traceId: string): Line[] {
  return readFileSync(join(stack.host.dataRoot, 'logs', `${service}.log`), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{') && line.includes(traceId))
    .map((line) => JSON.parse(line) as Line)
    .filter((line) => line.traceId === traceId);
}

const traced = (traceId: string): Record<string, string> => ({ traceparent: `00-${traceId}-00f067aa0ba902b7-01` });

describe('a trace', () => {
  it('goes with requests to every service that works for them, under the id of each', async () => {
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
    const headers = traced(traceId);
    const body = { Image: stack.busybox, Cmd: ['true'] };
    const created = await engineApi(stack.host, 'POST', '/v1.50/containers/create?name=traced', { body, headers });
    expect(created.status).toBe(201);
    const started = await engineApi(stack.host, 'POST', '/v1.50/containers/traced/start', { headers, timeoutMs: 100_000 });
    expect(started.status).toBe(204);
    const services = ['container-service', 'image-service', 'network-volume'];
    await waitFor(() => services.every((service) => linesOf(service, traceId).length > 0), { timeoutMs: 60_000, what: 'the log lines' });
    const told = linesOf('container-service', traceId);
    expect(told.map((line) => line.method)).toEqual(expect.arrayContaining(['create', 'start']));
    const ids = new Set(told.map((line) => line.requestId));
    expect(ids.size).toBe(2);
    for (const service of services) for (const line of linesOf(service, traceId)) expect(ids).toContain(line.requestId);
  });

  it('is in the line of what was refused, at the gateway and where it was', async () => {
    const traceId = 'a1b2c3d4e5f60718293a4b5c6d7e8f90';
    expect((await engineApi(stack.host, 'GET', '/v1.50/containers/ghost/json', { headers: traced(traceId) })).status).toBe(404);
    const refusedBy = ['gateway', 'container-service'];
    await waitFor(() => refusedBy.every((service) => linesOf(service, traceId).length > 0), { timeoutMs: 60_000, what: 'the log lines' });
    expect(new Set(refusedBy.flatMap((service) => linesOf(service, traceId).map((line) => line.requestId))).size).toBe(1);
  });

  it('that has not the form of one is left out', async () => {
    await engineApi(stack.host, 'GET', '/v1.50/containers/ghost/json', { headers: { traceparent: 'nonsense-with-words-inside' } });
    expect(linesOf('gateway', 'nonsense')).toEqual([]);
  });
});
