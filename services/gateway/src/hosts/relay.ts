/**
 * Requests below `/hosts/NAME`: passed on to that host's gateway as they are, and its answers passed back. What is plain HTTP goes through
 * http-proxy; upgrades (attach, exec, sessions) are joined here, with half-close.
 */
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { request as tlsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { errorMessage } from '@flotilla/errors';
import { http } from '@flotilla/service-kit/http';
import { joinStreams } from '@flotilla/streams';
import httpProxy from 'http-proxy';
import { sendJson } from '../http/respond.ts';
import type { Handler } from '../middleware/dispatch.ts';
import { sendError } from '../middleware/errors.ts';
import { takeSocket } from '../streams/hijack.ts';
import type { Destination, HostDirectory } from './directory.ts';

/** How long a host may take to say that it is there, when all are listed. */
const answerMs = 3_000;
/** How long a client may take to close its side after it has everything. */
const lingerMs = 5_000;

/** `/hosts/NAME/…`: the host, and what is asked of it. */
export function hostRequest(url: string): { readonly host: string; readonly url: string } | undefined {
  const match = /^\/hosts\/([^/?]+)(?=[/?]|$)/.exec(url);
  if (match?.[1] === undefined) return undefined;
  const rest = url.slice(match[0].length);
  return { host: match[1], url: rest.startsWith('/') ? rest : `/${rest}` };
}

export class HostRelay {
  private readonly directory: HostDirectory;
  private readonly proxy = httpProxy.createProxyServer({ changeOrigin: true });

  constructor(directory: HostDirectory) {
    this.directory = directory;
    this.proxy.on('proxyRes', (answer, _request, response) => {
      // Followers wait long for a first byte, and `docker run` for the headers alone.
      process.nextTick(() => response.flushHeaders());
      // Half an answer is cut, so that nobody takes it for a whole one.
      answer.once('close', () => {
        if (!answer.complete) response.destroy();
      });
    });
  }

  /** @throws NotFound for a host that is not in the file. */
  handle(request: IncomingMessage, response: ServerResponse, asked: { host: string; url: string }): void {
    const to = this.directory.find(asked.host);
    request.url = asked.url;
    if (request.headers.upgrade === undefined) this.pass(request, response, to);
    else this.upgrade(request, response, to);
  }

  /** Every host, and whether it answers. */
  async list(): Promise<{ Name: string; Address: string; Up: boolean; Error?: string }[]> {
    return Promise.all(
      this.directory.all().map(async (to) => {
        const error = await this.ping(to);
        return { Name: to.name, Address: to.url, Up: error === undefined, ...(error === undefined ? {} : { Error: error }) };
      }),
    );
  }

  close(): void {
    this.proxy.close();
    this.directory.close();
  }

  private pass(request: IncomingMessage, response: ServerResponse, to: Destination): void {
    this.proxy.web(request, response, { target: to.target, agent: to.agent, secure: true }, (error) => unreachable(response, to, error));
  }

  private upgrade(request: IncomingMessage, response: ServerResponse, to: Destination): void {
    const far = dial(to, { method: request.method ?? 'POST', path: request.url ?? '/', headers: request.headers });
    far.on('upgrade', (answer, socket: Duplex, head: Buffer) => {
      const client = takeSocket(request, response);
      response.statusCode = 101;
      client.write(`HTTP/1.1 101 ${answer.statusMessage ?? 'UPGRADED'}\r\n${rawHeaders(answer)}\r\n`);
      if (head.length > 0) client.write(head);
      const done = new AbortController();
      client.once('finish', () => setTimeout(() => done.abort(), lingerMs).unref());
      client.resume();
      void joinStreams(client, socket, done.signal);
    });
    far.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    far.on('error', (error) => unreachable(response, to, error));
    response.on('close', () => {
      if (response.statusCode !== 101) far.destroy();
    });
    request.pipe(far);
  }

  /** @returns why the host does not answer. */
  private ping(to: Destination): Promise<string | undefined> {
    return new Promise((resolve) => {
      const far = dial(to, { method: 'GET', path: '/_ping', headers: {}, timeout: answerMs }, (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200 ? undefined : `it answers ${answer.statusCode}`);
      });
      far.on('timeout', () => far.destroy(new Error(`no answer in ${answerMs} ms`)));
      far.on('error', (error) => resolve(errorMessage(error)));
      far.end();
    });
  }
}

/** What is below `/hosts/NAME` goes to that host, all else to the application. */
export function withHosts(relay: HostRelay, application: Handler): Handler {
  return (request, response) => {
    const asked = hostRequest(request.url ?? '/');
    if (asked === undefined) {
      application(request, response);
      return;
    }
    try {
      relay.handle(request, response, asked);
    } catch (error) {
      sendError(response, error);
    }
  };
}

interface Asking {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly timeout?: number;
}

/** The name in the host header is also the one that its certificate must have. */
function dial(to: Destination, asking: Asking, onAnswer?: (answer: IncomingMessage) => void): ClientRequest {
  const request = to.target.protocol === 'https:' ? tlsRequest : http.request;
  const headers = { ...asking.headers, host: `${to.target.host}:${to.target.port}` };
  return request({ ...to.target, agent: to.agent, ...asking, headers }, onAnswer);
}

function rawHeaders(answer: IncomingMessage): string {
  let text = '';
  for (let i = 0; i < answer.rawHeaders.length; i += 2) text += `${answer.rawHeaders[i]}: ${answer.rawHeaders[i + 1]}\r\n`;
  return text;
}

/** 502 is no class of errors: only a relay can say it. */
function unreachable(response: ServerResponse, to: Destination, error: unknown): void {
  if (response.headersSent) response.destroy();
  else sendJson(response, 502, { message: `host ${to.name} (${to.url}) cannot be reached: ${errorMessage(error)}` });
}
