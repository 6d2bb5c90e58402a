/** The copies the gateway keeps of container-service's and image-service's answers, and the answers from them that nothing has to be asked for. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { changeMarkBeside } from '@flotilla/records/changeMark';
import type { Discovery } from '@flotilla/service-kit';
import type { PolicySource } from '@flotilla/service-kit/rights';
import { versionOf } from './http/apiVersion.ts';
import type { Metrics } from './metrics.ts';
import { rawCommonHeaders } from './middleware/dispatch.ts';
import { ReadCopies, type ReadCopiesOptions } from './readCopies.ts';
import { ScopedCopies } from './rights/scope.ts';

export interface Copies {
  readonly containers: ReadCopies;
  /** Lists name the containers' images, and so depend on those too. */
  readonly containerLists: ReadCopies;
  readonly images: ReadCopies;
}

export function openCopies(discovery: Discovery, policy?: PolicySource): Copies {
  const beside = (service: string) => (): string | undefined => {
    const beat = discovery.instances(service).find(({ grpcAddress }) => grpcAddress.startsWith('unix:'));
    return beat === undefined ? undefined : changeMarkBeside(beat.grpcAddress);
  };
  const open = (options: ReadCopiesOptions): ReadCopies =>
    policy === undefined ? new ReadCopies(options) : new ScopedCopies(options, policy);
  return {
    containers: open({ markPaths: [beside('container-service')] }),
    containerLists: open({ markPaths: [beside('container-service'), beside('image-service')] }),
    images: open({ markPaths: [beside('image-service')] }),
  };
}

/** The answer depends on the request's path, its parameters and its version. */
export function copyKey(request: IncomingMessage): string {
  return `${versionOf(request)} ${request.url ?? ''}`;
}

/**
 * Answers a read of which there is a copy, before Express sees it; false when there is none. Not for callers of limited rights, nor with an audit log: those go
 * all the way.
 */
export function answerFromCopies(copies: Copies, metrics: Metrics): (request: IncomingMessage, response: ServerResponse) => boolean {
  return (request, response) => {
    if (request.method !== 'GET') return false;
    const url = request.url ?? '';
    const document = copiesFor(url, copies)?.ready(copyKey(request));
    if (document === undefined) return false;
    const began = performance.now();
    response.writeHead(200, [...rawCommonHeaders, 'Content-Type', 'application/json', 'Content-Length', String(document.length)]);
    response.end(document);
    metrics.answered(operationOfCopy(url), performance.now() - began);
    return true;
  };
}

function copiesFor(url: string, copies: Copies): ReadCopies | undefined {
  if (url.startsWith('/containers/')) return /^\/containers\/json(?:\?|$)/.test(url) ? copies.containerLists : copies.containers;
  return url.startsWith('/images/') ? copies.images : undefined;
}

/** What the copy is of, as the metrics of the routes name it. */
function operationOfCopy(url: string): string {
  const kind = url.startsWith('/containers/') ? '/containers' : '/images';
  return url.startsWith('/json', kind.length) ? `${kind}/json` : `${kind}/{name}/json`;
}

/** A document as bytes, once for every copy of it. */
export function documentBytes(document: unknown): Uint8Array {
  return document instanceof Uint8Array ? document : Buffer.from(JSON.stringify(document));
}
