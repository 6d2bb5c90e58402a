/**
 * A stack that was told of a lab's proxy keeps no cache of its own: what its image-service asks for is passed on, headers and bytes as they are,
 * and so are log-ins and searches. This process is still the only one of the stack that speaks to the outside.
 */
import type { Agent, IncomingMessage, ServerResponse } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage } from '@flotilla/errors';
import { http } from '@flotilla/service-kit/http';
import httpProxy from 'http-proxy';
import { UpstreamAway } from './distributionError.ts';
import type { Lab } from './lab.ts';
import type { TimeLimits } from './upstream/connection.ts';
import { keepLimits, retireAgent, tlsAgentOptions } from './upstream/transport.ts';

const connections = 64;
const retryPausesMs = [50, 200, 1000];
const quickFaults = new Set(['ECONNRESET', 'ECONNREFUSED', 'EPIPE']);
/** Without a byte from the lab's proxy for so long, a request counts as lost. */
const idleMs = 120_000;

export class Relay {
  private readonly lab: () => Promise<Lab>;
  private readonly connectTimeoutMs: number;
  private readonly proxy: ReturnType<typeof httpProxy.createProxyServer>;
  private readonly limits = new WeakMap<IncomingMessage, TimeLimits>();
  /** Connections, and to whom: other certificates want others. */
  private agent: { readonly key: string; readonly agent: Agent } | undefined;

  constructor(lab: () => Promise<Lab>, connectTimeoutMs: number) {
    this.lab = lab;
    this.connectTimeoutMs = connectTimeoutMs;
    this.proxy = httpProxy.createProxyServer({ changeOrigin: true });
    this.proxy.on('proxyReq', (outgoing, request) => {
      const limits = this.limits.get(request);
      if (limits !== undefined) keepLimits(outgoing, limits);
    });
    // Half an answer is cut, so that nobody takes it for a whole one.
    this.proxy.on('proxyRes', (answer, _request, response) => {
      answer.once('close', () => {
        if (!answer.complete) response.destroy();
      });
    });
  }

  /** Passes a request below `/v2` on. @returns false for any other path. @throws UpstreamAway when the lab's proxy does not answer. */
  async handle(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    if (!/^\/v2(?:\/|\?|$)/.test(request.url ?? '')) return false;
    const reads = request.method === 'GET' || request.method === 'HEAD';
    const lab = await this.lab();
    for (let attempt = 0; ; attempt++) {
      const error = await this.pass(request, response, lab, reads);
      if (error === undefined) return true;
      // A replica that died in the middle of a question: another answers it.
      const pauseMs = reads && isQuickFault(error) ? retryPausesMs[attempt] : undefined;
      if (pauseMs === undefined || response.destroyed) throw away(lab.url, error);
      await sleep(pauseMs);
    }
  }

  /** @returns why there is no answer; undefined when there was one, whole or cut. */
  private pass(request: IncomingMessage, response: ServerResponse, lab: Lab, reads: boolean): Promise<unknown> {
    const { url, connection, authorization } = lab;
    this.limits.set(request, {
      connectTimeoutMs: this.connectTimeoutMs,
      headersTimeoutMs: idleMs,
      bodyIdleTimeoutMs: idleMs,
      ...connection.limits,
    });
    const options = {
      target: url,
      agent: this.agentFor(lab),
      secure: connection.verifyTls,
      // Credentials for upstreams are in another header: this one is for the lab's proxy.
      ...(authorization === undefined ? {} : { headers: { authorization } }),
      // A question has no body; one that was read before could not be sent again.
      ...(reads ? { buffer: Readable.from([]) } : {}),
    };
    return new Promise((resolve) => {
      const onClose = (): void => resolve(undefined);
      response.once('close', onClose);
      this.proxy.web(request, response, options, (error) => {
        if (response.headersSent) response.destroy();
        else {
          response.off('close', onClose);
          resolve(error);
        }
      });
    });
  }

  private agentFor({ url, connection }: Lab): Agent {
    const key = `${connection.verifyTls} ${connection.tls?.id ?? ''}`;
    if (this.agent?.key === key) return this.agent.agent;
    if (this.agent !== undefined) retireAgent(this.agent.agent);
    const options = { keepAlive: true, maxSockets: connections };
    const agent = url.startsWith('https:') ? new TlsAgent({ ...options, ...tlsAgentOptions(connection) }) : new http.Agent(options);
    this.agent = { key, agent };
    return agent;
  }

  close(): void {
    this.proxy.close();
    this.agent?.agent.destroy();
  }
}

function away(url: string, error: unknown): UpstreamAway {
  return new UpstreamAway(`the registry proxy at ${url} cannot be reached: ${errorMessage(error)}`, { status: 502, cause: error });
}

function isQuickFault(error: unknown): boolean {
  const faults = error instanceof AggregateError ? (error.errors as unknown[]) : [error];
  return faults.every((each) => quickFaults.has((each as NodeJS.ErrnoException).code ?? ''));
}
