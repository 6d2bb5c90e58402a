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
import { tlsAgentOptions } from './upstream/transport.ts';

const connections = 64;
const retryPausesMs = [50, 200, 1000];
const quickFaults = new Set(['ECONNRESET', 'ECONNREFUSED', 'EPIPE']);
/** Without a byte from the lab's proxy for so long, a request counts as lost. */
const idleMs = 120_000;

export class Relay {
  private readonly target: string;
  private readonly agent: Agent;
  private readonly proxy: ReturnType<typeof httpProxy.createProxyServer>;

  constructor({ url, connection, authorization }: Lab) {
    this.target = url;
    const options = { keepAlive: true, maxSockets: connections };
    this.agent = this.target.startsWith('https:') ? new TlsAgent({ ...options, ...tlsAgentOptions(connection) }) : new http.Agent(options);
    this.proxy = httpProxy.createProxyServer({
      target: this.target,
      agent: this.agent,
      changeOrigin: true,
      proxyTimeout: idleMs,
      secure: connection.verifyTls,
      // Credentials for upstreams are in another header: this one is for the lab's proxy.
      ...(authorization === undefined ? {} : { headers: { authorization } }),
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
    for (let attempt = 0; ; attempt++) {
      const error = await this.pass(request, response, reads);
      if (error === undefined) return true;
      // A replica that died in the middle of a question: another answers it.
      const pauseMs = reads && isQuickFault(error) ? retryPausesMs[attempt] : undefined;
      if (pauseMs === undefined || response.destroyed) throw this.away(error);
      await sleep(pauseMs);
    }
  }

  /** @returns why there is no answer; undefined when there was one, whole or cut. */
  private pass(request: IncomingMessage, response: ServerResponse, reads: boolean): Promise<unknown> {
    return new Promise((resolve) => {
      const onClose = (): void => resolve(undefined);
      response.once('close', onClose);
      // A question has no body; one that was read before could not be sent again.
      this.proxy.web(request, response, reads ? { buffer: Readable.from([]) } : {}, (error) => {
        if (response.headersSent) response.destroy();
        else {
          response.off('close', onClose);
          resolve(error);
        }
      });
    });
  }

  private away(error: unknown): UpstreamAway {
    return new UpstreamAway(`the registry proxy at ${this.target} cannot be reached: ${errorMessage(error)}`, {
      status: 502,
      cause: error,
    });
  }

  close(): void {
    this.proxy.close();
    this.agent.destroy();
  }
}

function isQuickFault(error: unknown): boolean {
  const faults = error instanceof AggregateError ? (error.errors as unknown[]) : [error];
  return faults.every((each) => quickFaults.has((each as NodeJS.ErrnoException).code ?? ''));
}
