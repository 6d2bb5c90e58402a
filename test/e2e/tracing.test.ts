/**
 * One id from the client's call to the last service's log line: the request id, and the trace that the client is part of (W3C trace context). Spans come
 * to a collector, by OTLP/HTTP.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { isCompact, useStack } from './stack.ts';

const stack = useStack({
  stack: {
    args: ['--log-level', 'debug'],
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318', OTEL_EXPORTER_OTLP_HEADERS: 'x-token=who%20asks' },
  },
});

interface Line {
  readonly service: string;
  readonly method?: string;
  readonly requestId?: string;
  readonly traceId?: string;
  readonly message?: string;
}

/** What a service has logged for a trace. */
function linesOf(service: string, traceId: string): Line[] {
  return readFileSync(join(stack.host.dataRoot, 'logs', `${isCompact ? 'compact' : service}.log`), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{') && line.includes(traceId))
    .map((line) => JSON.parse(line) as Line)
    .filter((line) => line.service === service && line.traceId === traceId);
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
    const methods = (): unknown[] => linesOf('container-service', traceId).map((line) => line.method);
    await waitFor(() => services.every((service) => linesOf(service, traceId).length > 0) && methods().includes('start'), {
      timeoutMs: 60_000,
      what: 'the log lines',
    });
    const told = linesOf('container-service', traceId);
    expect(methods()).toEqual(expect.arrayContaining(['create', 'start']));
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

interface Attribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly intValue?: string };
}
interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number };
}
interface Sent {
  readonly path: string;
  readonly token: string;
  readonly body: {
    readonly resourceSpans: readonly {
      resource: { attributes: readonly Attribute[] };
      scopeSpans: readonly { spans: readonly OtlpSpan[] }[];
    }[];
  };
}
interface Span extends OtlpSpan {
  readonly service: string;
  readonly of: Readonly<Record<string, string>>;
}

const valuesOf = (attributes: readonly Attribute[]): Record<string, string> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? value.intValue ?? '']));

describe('a collector', () => {
  /** Writes down what it is sent, a line a request. It begins when services have been sending for a while. */
  const collector = `
    import { appendFileSync } from 'node:fs';
    import { createServer } from 'node:http';
    createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      appendFileSync(process.argv[2], JSON.stringify({ path: request.url, token: request.headers['x-token'], body: JSON.parse(body) }) + '\\n');
      response.setHeader('Content-Type', 'application/json').end('{}');
    }).listen(4318, '127.0.0.1');`;
  const file = (): string => join(stack.host.filesDirectory, 'spans');
  let stop = (): void => {};
  afterAll(() => stop());

  function sent(): Sent[] {
    if (!existsSync(file())) return [];
    const lines = readFileSync(file(), 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Sent);
  }

  function spansOf(traceId: string): Span[] {
    const all = sent().flatMap(({ body }) => body.resourceSpans);
    return all
      .flatMap(({ resource, scopeSpans }) =>
        scopeSpans.flatMap(({ spans }) =>
          spans.map((span) => ({ ...span, service: valuesOf(resource.attributes)['service.name'] ?? '', of: valuesOf(span.attributes) })),
        ),
      )
      .filter((span) => span.traceId === traceId);
  }

  it('is sent the spans of every service, each below the one that asked, those from before it was there too', async () => {
    const traceId = 'c0ffee00c0ffee00c0ffee00c0ffee00';
    const parent = '00f067aa0ba902b7';
    const body = { Image: stack.busybox, Cmd: ['true'] };
    expect((await engineApi(stack.host, 'POST', '/v1.50/containers/create?name=spanned', { body, headers: traced(traceId) })).status).toBe(
      201,
    );
    const script = join(stack.host.filesDirectory, 'collector.mjs');
    writeFileSync(script, collector);
    const running = stack.host.spawn(process.execPath, [script, file()]);
    stop = () => running.kill();
    expect(
      (await engineApi(stack.host, 'POST', '/v1.50/containers/spanned/start', { headers: traced(traceId), timeoutMs: 100_000 })).status,
    ).toBe(204);
    expect((await engineApi(stack.host, 'GET', '/v1.50/containers/ghost/json', { headers: traced(traceId) })).status).toBe(404);
    const pulled = await engineApi(stack.host, 'POST', `/v1.50/images/create?fromImage=${encodeURIComponent(stack.busybox)}`, {
      headers: traced(traceId),
      timeoutMs: 100_000,
    });
    expect(pulled.status).toBe(200);

    const services = ['container-service', 'gateway', 'image-service', 'network-volume', 'registry-proxy'];
    // Each service sends its own in its own time: a span may come before the one that it is below.
    const ended = (): boolean => {
      const spans = spansOf(traceId);
      const ids = new Set(spans.map(({ spanId }) => spanId));
      return (
        ['ContainerCreate', 'ContainerStart', 'ContainerInspect', 'ImageCreate'].every((name) =>
          spans.some((span) => span.name === name),
        ) &&
        services.every((service) => spans.some((span) => span.service === service)) &&
        spans.every(({ service, parentSpanId = '' }) => service === 'gateway' || ids.has(parentSpanId))
      );
    };
    await waitFor(ended, { timeoutMs: 60_000, what: 'the spans' });
    const spans = spansOf(traceId);
    const byId = new Map(spans.map((span) => [span.spanId, span]));
    expect(byId.size).toBe(spans.length);
    for (const span of spans) {
      const above = byId.get(span.parentSpanId ?? '');
      expect(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano)).toBe(true);
      // What the client asked for is below the client's own span, all else below a span of ours, by the same request.
      if (span.service === 'gateway') expect(span.parentSpanId).toBe(parent);
      else expect(above?.of['flotilla.request_id']).toBe(span.of['flotilla.request_id']);
    }
    const start = spans.find((span) => span.name === 'ContainerStart');
    const carriedOut = spans.find((span) => span.name === 'flotilla.container.v1.Containers/Start');
    expect(carriedOut?.parentSpanId).toBe(start?.spanId);
    expect(spans.find((span) => span.name === 'flotilla.network.v1.Sandboxes/Prepare')?.parentSpanId).toBe(carriedOut?.spanId);
    expect(start?.of).toMatchObject({
      'http.response.status_code': '204',
      'flotilla.object': 'spanned',
      'url.path': '/containers/spanned/start',
    });
    // The caller's mistake is none of ours.
    expect(spans.find((span) => span.name === 'ContainerInspect')).toMatchObject({
      of: { 'http.response.status_code': '404' },
      status: {},
    });
    expect(new Set(sent().map(({ path, token }) => `${path} ${token}`))).toEqual(new Set(['/v1/traces who asks']));
    // The line about what the runtime did has the id of the client's request.
    const told = linesOf('container-service', traceId).find((line) => line.message === 'the runtime has started it');
    expect(told?.requestId).toBe(start?.of['flotilla.request_id']);
  });

  it('is sent nothing of a trace that its client does not look at', async () => {
    const unseen = 'dead0000dead0000dead0000dead0000';
    const headers = { traceparent: `00-${unseen}-00f067aa0ba902b7-00` };
    expect((await engineApi(stack.host, 'GET', '/v1.50/containers/ghost/json', { headers })).status).toBe(404);
    const after = 'dead0000dead0000dead0000dead0001';
    expect((await engineApi(stack.host, 'GET', '/v1.50/containers/ghost/json', { headers: traced(after) })).status).toBe(404);
    await waitFor(() => ['gateway', 'container-service'].every((service) => spansOf(after).some((span) => span.service === service)), {
      timeoutMs: 60_000,
      what: 'the spans of the later request',
    });
    expect(spansOf(unseen)).toEqual([]);
    expect(linesOf('container-service', unseen)).not.toEqual([]);
  });
});
