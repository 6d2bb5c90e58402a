/** The copies the gateway keeps of container-service's and image-service's answers. */
import type { IncomingMessage } from 'node:http';
import { changeMarkBeside } from '@flotilla/records/changeMark';
import type { Discovery } from '@flotilla/service-kit';
import type { PolicySource } from '@flotilla/service-kit/rights';
import { versionOf } from './http/apiVersion.ts';
import { ReadCopies, type ReadCopiesOptions } from './readCopies.ts';
import { ScopedCopies } from './rights/scope.ts';

export interface Copies {
  readonly containers: ReadCopies;
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
    containers: open({ markPath: beside('container-service') }),
    images: open({ markPath: beside('image-service') }),
  };
}

/** The answer depends on the request's path, its parameters and its version. */
export function copyKey(request: IncomingMessage): string {
  return `${versionOf(request)} ${request.url ?? ''}`;
}

/** A document as bytes, once for every copy of it. */
export function bytesOf(document: unknown): Uint8Array {
  return document instanceof Uint8Array ? document : Buffer.from(JSON.stringify(document));
}
