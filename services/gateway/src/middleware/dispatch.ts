/**
 * What happens to every request before Express sees it: ping is answered at once, headers are set, the version prefix is taken off and the
 * request gets its id.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { InvalidParameter } from '@flotilla/errors';
import { apiVersion, engineVersion, minApiVersion, newRequestId, runWithRequest } from '@flotilla/service-kit';
import { compareVersions, setVersion } from '../http/apiVersion.ts';
import { sendError } from './errors.ts';

const prefix = /^\/v([0-9][0-9.]*)(?=\/|$)/;
const ping = /^(?:\/v[0-9][0-9.]*)?\/_ping(?:\?|$)/;
const unclean = /\/\/|\/\.{1,2}(?:\/|$)/;
const traceparentForm = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Unique without asking for randomness at each request: this process's own half and a counter. */
const ownHalf = newRequestId().slice(0, 8);
let count = 0;
function nextRequestId(): string {
  count = (count + 1) >>> 0;
  return ownHalf + count.toString(16).padStart(8, '0');
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Wraps the application. `answerAtOnce` says whether it has answered: it sees well-formed requests, without their version, before anything is made for them. */
export function dispatch(application: Handler, answerAtOnce?: (request: IncomingMessage, response: ServerResponse) => boolean): Handler {
  return (request, response) => {
    const url = request.url ?? '/';
    if (ping.test(url) && (request.method === 'GET' || request.method === 'HEAD')) {
      answerPing(request, response);
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
        sendError(response, new InvalidParameter(problem));
        return;
      }
      setVersion(request, version);
      request.url = url.slice(version.length + 2) || '/';
    }
    if (answerAtOnce?.(request, response) === true) return;
    setCommonHeaders(response);
    const traceparent = request.headers.traceparent;
    const context = {
      requestId: nextRequestId(),
      ...(typeof traceparent === 'string' && traceparentForm.test(traceparent) ? { traceparent } : {}),
    };
    runWithRequest(context, () => application(request, response));
  };
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
const pingHeaders = {
  get: rawPingHeaders('2'),
  head: rawPingHeaders('0'),
};

function rawPingHeaders(length: string): string[] {
  const headers = {
    ...commonHeaders,
    'Cache-Control': 'no-cache, no-store, must-revalidate',
    Pragma: 'no-cache',
    'Builder-Version': '2',
    Swarm: 'inactive',
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': length,
  };
  return Object.entries(headers).flat();
}

function answerPing(request: IncomingMessage, response: ServerResponse): void {
  const head = request.method === 'HEAD';
  response.writeHead(200, head ? pingHeaders.head : pingHeaders.get);
  response.end(head ? undefined : 'OK');
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
