/**
 * Spans by OTLP/HTTP in JSON, where OTEL_EXPORTER_OTLP_ENDPOINT says that they are wanted: one for each request at the gateway and for each call that a
 * service answers, joined by W3C trace context. A collector that is away or slow costs spans, never a request.
 */
import { randomBytes } from 'node:crypto';
import { errorMessage } from '@flotilla/errors';
import type { Logger } from './logger.ts';
import { version } from './version.ts';

export interface TracingSettings {
  readonly OTEL_EXPORTER_OTLP_ENDPOINT: string;
  readonly OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: string;
  readonly OTEL_EXPORTER_OTLP_HEADERS: string;
}

type Attributes = Readonly<Record<string, string | number>>;

/** Something that is being done. */
export interface Span {
  /** What is passed on, so that what others do for it is below it. */
  readonly traceparent: string;
  /** @param error - why it failed through our fault. */
  end(attributes: Attributes, error?: string): void;
}

const traceparentForm = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const sampledFlag = 1;
const serverKind = 2;
const errorCode = 2;
const flushEveryMs = 1_000;
const sendWithinMs = 5_000;
const mostSpans = 4_096;

/** Whether a client's header has the form that W3C gives it. */
export function isTraceparent(text: string): boolean {
  return traceparentForm.test(text);
}

export class Tracer {
  private readonly url: string;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly resource: object;
  private readonly logger: Logger;
  private readonly timer: NodeJS.Timeout;
  private waiting: object[] = [];
  private sending: Promise<void> | undefined;
  private isReached = true;

  private constructor(url: string, headers: Record<string, string>, options: { service: string; instance: string; logger: Logger }) {
    this.url = url;
    this.headers = headers;
    this.logger = options.logger;
    this.resource = {
      attributes: encode({
        'service.name': options.service,
        'service.namespace': 'flotilla',
        'service.instance.id': options.instance,
        'service.version': version,
      }),
    };
    this.timer = setInterval(() => void this.flush(), flushEveryMs).unref();
  }

  /** Undefined when nobody wants spans. */
  static from(settings: TracingSettings, options: { service: string; instance: string; logger: Logger }): Tracer | undefined {
    const base = settings.OTEL_EXPORTER_OTLP_ENDPOINT;
    const url = settings.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || (base === '' ? '' : `${base.replace(/\/$/, '')}/v1/traces`);
    return url === '' ? undefined : new Tracer(url, parseHeaders(settings.OTEL_EXPORTER_OTLP_HEADERS), options);
  }

  /** @param parent - the trace context of who asks, as it came. Undefined when that says that nobody looks at the trace. */
  begin(name: string, parent: string | undefined, attributes: Attributes): Span | undefined {
    const [, parentTrace, parentSpanId, flags = '01'] = traceparentForm.exec(parent ?? '') ?? [];
    if ((Number.parseInt(flags, 16) & sampledFlag) === 0) return undefined;
    const traceId = parentTrace ?? randomBytes(16).toString('hex');
    const spanId = randomBytes(8).toString('hex');
    const startTimeUnixNano = nowNano();
    return {
      traceparent: `00-${traceId}-${spanId}-01`,
      end: (result, error) => {
        this.add({
          traceId,
          spanId,
          ...(parentSpanId === undefined ? {} : { parentSpanId }),
          name,
          kind: serverKind,
          startTimeUnixNano,
          endTimeUnixNano: nowNano(),
          attributes: encode({ ...attributes, ...result }),
          status: error === undefined ? {} : { code: errorCode, message: error },
        });
      },
    };
  }

  private add(span: object): void {
    if (this.waiting.length < mostSpans) this.waiting.push(span);
  }

  private flush(): Promise<void> {
    this.sending ??= this.send().finally(() => {
      this.sending = undefined;
    });
    return this.sending;
  }

  private async send(): Promise<void> {
    const spans = this.waiting;
    if (spans.length === 0) return;
    this.waiting = [];
    const body = JSON.stringify({
      resourceSpans: [{ resource: this.resource, scopeSpans: [{ scope: { name: 'flotilla', version }, spans }] }],
    });
    try {
      const signal = AbortSignal.timeout(sendWithinMs);
      const headers = { ...this.headers, 'Content-Type': 'application/json' };
      const answer = await fetch(this.url, { method: 'POST', headers, body, signal });
      await answer.arrayBuffer();
      if (!answer.ok) throw new Error(`the collector answered ${answer.status}`);
      this.isReached = true;
    } catch (error) {
      // Once is enough: the collector may be away for days.
      if (this.isReached)
        this.logger.warn({ reason: errorMessage(error), cause: errorMessage((error as Error).cause) }, 'spans are not taken');
      this.isReached = false;
      this.waiting = [...spans, ...this.waiting].slice(0, mostSpans);
    }
  }

  /** Sends what is left, if the collector takes it. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    await this.sending;
    await this.flush();
  }
}

function nowNano(): string {
  const micros = Math.round((performance.timeOrigin + performance.now()) * 1_000);
  return `${micros}000`;
}

function encode(attributes: Attributes): object[] {
  return Object.entries(attributes).map(([key, value]) => ({
    key,
    value: typeof value === 'number' ? { intValue: String(value) } : { stringValue: value },
  }));
}

/** `key=value,key=value`, with values as in a URL. */
function parseHeaders(text: string): Record<string, string> {
  const pairs = text.split(',').filter((pair) => pair.includes('='));
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
    }),
  );
}
