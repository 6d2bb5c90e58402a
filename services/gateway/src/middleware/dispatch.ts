/**
 * What happens to every request before Express sees it: ping is answered at once, headers are set, the version prefix is taken off and the
 * request gets its id.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { InvalidParameter } from '@flotilla/errors';
import { apiVersion, engineVersion, isTraceparent, minApiVersion, newRequestId, runWithRequest, type Tracer } from '@flotilla/service-kit';
import { compareVersions, setVersion } from '../http/apiVersion.ts';
import { operationOf } from '../rights/operations.ts';
import { notFound, sendError } from './errors.ts';

const prefix = /^\/v([0-9][0-9.]*)(?=\/|$)/;
const ping = /^(?:\/v[0-9][0-9.]*)?\/_ping(?:\?|$)/;
const unclean = /\/\/|\/\.{1,2}(?:\/|$)/;

/** Unique without asking for randomness at each request: this process's own half and a counter. */
const ownHalf = newRequestId().slice(0, 8);
let count = 0;
function nextRequestId(): string {
  count = (count + 1) >>> 0;
  return ownHalf + count.toString(16).padStart(8, '0');
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface DispatchOptions {
  /** Says whether it has answered: it sees well-formed requests, without their version, before anything is made for them. */
  readonly answerAtOnce?: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  readonly tracer?: Tracer | undefined;
  /** `features.buildkit` is off: clients of before 23, which take what the engine names, build by the classic API. */
  readonly classicBuilder?: boolean;
}

/** Wraps the application. */
export function dispatch(application: Handler, { answerAtOnce, tracer, classicBuilder = false }: DispatchOptions = {}): Handler {
  const builderVersion = classicBuilder ? '1' : '2';
  const pingHeaders = { get: rawPingHeaders('2', builderVersion), head: rawPingHeaders('0', builderVersion) };
  return (request, response) => {
    const url = request.url ?? '/';
    if (ping.test(url) && (request.method === 'GET' || request.method === 'HEAD')) {
      answerPing(request.method === 'HEAD', response, pingHeaders);
      return;
    }
    const mark = url.indexOf('?');
    const path = mark < 0 ? url : url.slice(0, mark);
    if (unclean.test(path)) {
      setCommonHeaders(response);
      response.writeHead(301, { Location: cleanPath(path) + (mark < 0 ? '' : url.slice(mark)), 'Content-Length': 0 });
      response.end();
      return;
    }
    const version = prefix.exec(path)?.[1];
    if (version !== undefined) {
      const problem = versionProblem(version);
      if (problem !== undefined) {
        setCommonHeaders(response);
        // A path that no version has is not there, whatever version it is asked in.
        const exists = operationOf(request.method ?? '', path.slice(version.length + 2)) !== undefined;
        sendError(response, exists ? new InvalidParameter(problem) : notFound());
        return;
      }
      setVersion(request, version);
      request.url = url.slice(version.length + 2) || '/';
    }
    if (answerAtOnce?.(request, response) === true) return;
    setCommonHeaders(response);
    const requestId = nextRequestId();
    const given = request.headers.traceparent;
    const parent = typeof given === 'string' && isTraceparent(given) ? given : undefined;
    const traceparent = tracer === undefined ? parent : (beginSpan(tracer, parent, requestId, request, response) ?? parent);
    runWithRequest({ requestId, ...(traceparent === undefined ? {} : { traceparent }) }, () => application(request, response));
  };
}

/** Spans the request until its connection is done with it; streams too. Gives what is passed on. */
function beginSpan(
  tracer: Tracer,
  parent: string | undefined,
  requestId: string,
  request: IncomingMessage,
  response: ServerResponse,
): string | undefined {
  const method = request.method ?? '';
  const path = (request.url ?? '/').split('?', 1)[0] ?? '';
  const operation = operationOf(method, path);
  const span = tracer.begin(operation?.id ?? method, parent, {
    'http.request.method': method,
    'url.path': path,
    'flotilla.request_id': requestId,
    ...(operation === undefined || operation.object === '' ? {} : { 'flotilla.object': operation.object }),
  });
  response.once('close', () => {
    const { statusCode } = response;
    span?.end({ 'http.response.status_code': statusCode }, statusCode >= 500 ? `status ${statusCode}` : undefined);
  });
  return span?.traceparent;
}

const commonHeaders = {
  'Api-Version': apiVersion,
  'Docker-Experimental': 'false',
  Ostype: 'linux',
  Server: `Docker/${engineVersion} (linux)`,
};

/** The same, as `writeHead` takes them with the least work. */
export const rawCommonHeaders: readonly string[] = Object.entries(commonHeaders).flat();

function setCommonHeaders(response: ServerResponse): void {
  for (const [name, value] of Object.entries(commonHeaders)) response.setHeader(name, value);
}

/** Builder-Version 2: clients of before 23 take BuildKit by themselves. */
function rawPingHeaders(length: string, builderVersion: string): string[] {
  const headers = {
    ...commonHeaders,
    'Cache-Control': 'no-cache, no-store, must-revalidate',
    Pragma: 'no-cache',
    'Builder-Version': builderVersion,
    Swarm: 'inactive',
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': length,
  };
  return Object.entries(headers).flat();
}

function answerPing(isHead: boolean, response: ServerResponse, headers: { readonly get: string[]; readonly head: string[] }): void {
  response.writeHead(200, isHead ? headers.head : headers.get);
  response.end(isHead ? undefined : 'OK');
}

/** dockerd's words for a version that is not spoken. */
export function versionProblem(version: string): string | undefined {
  if (compareVersions(version, minApiVersion) < 0) {
    return `client version ${version} is too old. Minimum supported API version is ${minApiVersion}, please upgrade your client to a newer version`;
  }
  if (compareVersions(version, apiVersion) > 0) {
    return `client version ${version} is too new. Maximum supported API version is ${apiVersion}`;
  }
  return undefined;
}

/** The path without empty, `.` and `..` elements, where clients are redirected. */
export function cleanPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}${path.endsWith('/') && parts.length > 0 ? '/' : ''}`;
}
