/**
 * A client for the cases of the distribution specification, against a proxy's own repositories: one proxy a test file. Manifests are documents, blobs are
 * bytes, and every algorithm that the specification knows can be asked for.
 */
import { createHash, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect } from 'vitest';
import { startProxy, type TestProxy } from '../support/proxy.ts';

export const imageType = 'application/vnd.oci.image.manifest.v1+json';
export const indexType = 'application/vnd.oci.image.index.v1+json';
export const emptyType = 'application/vnd.oci.empty.v1+json';

let proxy: TestProxy;

/** Starts the proxy of a test file. */
export function useOwnRepositories(): void {
  beforeAll(async () => {
    proxy = await startProxy();
  });
  afterAll(() => proxy.stop());
}

export const digest = (bytes: Buffer, algorithm = 'sha256'): string => `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
export const bytesOf = async (answer: Response): Promise<Buffer> => Buffer.from(await answer.arrayBuffer());

/** A request below `/v2/`, or at a Location. */
export function ask(method: string, path: string, body?: Buffer, headers: Record<string, string> = {}): Promise<Response> {
  const url = path.startsWith('/') ? `${proxy.url}${path}` : `${proxy.url}/v2/${path}`;
  return fetch(url, { method, headers, ...(body === undefined ? {} : { body: new Uint8Array(body) }) });
}

export async function begin(name: string): Promise<string> {
  const begun = await ask('POST', `${name}/blobs/uploads/`);
  expect(begun.status).toBe(202);
  return location(begun);
}

export function location(answer: Response): string {
  const value = answer.headers.get('location') ?? '';
  expect(value).not.toBe('');
  return value;
}

/** A place of an upload, to end it at. */
export const withDigest = (place: string, value: string): string => `${place}${place.includes('?') ? '&' : '?'}digest=${value}`;
export const octets = { 'content-type': 'application/octet-stream' };
/** Headers of a chunk. */
export const chunk = (start: number, end: number): Record<string, string> => ({ ...octets, 'content-range': `${start}-${end - 1}` });

export async function putBlob(name: string, bytes: Buffer, algorithm = 'sha256'): Promise<string> {
  const value = digest(bytes, algorithm);
  expect((await ask('PUT', withDigest(await begin(name), value), bytes, octets)).status).toBe(201);
  return value;
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export async function putManifest(name: string, reference: string, document: object, type = imageType): Promise<Response> {
  return ask('PUT', `${name}/manifests/${reference}`, Buffer.from(JSON.stringify(document)), { 'content-type': type });
}

/** An image manifest of blobs that are pushed first. */
export async function image(name: string, more: object = {}, layers = 1): Promise<object> {
  const config = Buffer.from('{}');
  const described = async (bytes: Buffer, mediaType: string): Promise<Descriptor> => ({
    mediaType,
    digest: await putBlob(name, bytes),
    size: bytes.length,
  });
  const parts = Array.from({ length: layers }, () => described(randomBytes(200), 'application/vnd.oci.image.layer.v1.tar'));
  return {
    schemaVersion: 2,
    mediaType: imageType,
    config: await described(config, 'application/vnd.oci.image.config.v1+json'),
    layers: await Promise.all(parts),
    ...more,
  };
}

export const bytesOfDocument = (document: object): Buffer => Buffer.from(JSON.stringify(document));

/** A refusal has the specification's body, and its code is one of the expected. */
export async function refusal(answer: Response, status: number, code: string): Promise<void> {
  const body = (await answer.json()) as { errors: { code: string; message: string }[] };
  expect([answer.status, body.errors[0]?.code]).toEqual([status, code]);
  expect(typeof body.errors[0]?.message).toBe('string');
}
