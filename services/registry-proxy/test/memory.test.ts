/**
 * Flat memory: many clients of large blobs, cold and warm, slow readers among them, do not make the process grow. A small dose in every run, a hundred
 * clients of one gigabyte with FLOTILLA_SOAK=1.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { finished } from 'node:stream/promises';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { StandaloneProcess } from './support/standalone.ts';

const soak = process.env.FLOTILLA_SOAK === '1';
const MiB = 1024 * 1024;
const clients = soak ? 100 : 20;
const blobMiB = soak ? 1024 : 64;
/** Of the clients, those that read nothing until all others are done. */
const slowClients = clients / 4;
/**
 * What the process may hold at its peak beyond what it held at rest: two buffers of 256 KiB a client (50 MiB for a hundred), what gathers of each blob while
 * the disk is at work (4 MiB), and what V8 lets lie until it collects. The bytes that pass through are 5 to 400 times that.
 */
const maxGrowthMiB = 192;

/** Files, sockets and pipes of a process that serves nobody. */
const atMostAtRest = 40;

let upstream: Server;
let proxy: StandaloneProcess;
let digests: string[];

/** The upstream's blobs are one mebibyte over and over, each beginning with its own number. */
const chunk = Buffer.alloc(MiB, 'flotilla');
const head = (index: number): Buffer => Buffer.from(`blob ${index}`.padEnd(16));

function* bytesOf(index: number, sizeMiB: number): Generator<Buffer> {
  yield head(index);
  for (let count = 0; count < sizeMiB; count++) yield chunk;
}

beforeAll(async () => {
  digests = [0, 1, 2, 3, 4].map((index) => {
    const hash = createHash('sha256');
    for (const part of bytesOf(index, sizeOf(index))) hash.update(part);
    return `sha256:${hash.digest('hex')}`;
  });
  upstream = createServer(async (request, response) => {
    const index = digests.findIndex((digest) => request.url?.endsWith(digest));
    response.writeHead(index < 0 ? 404 : 200, index < 0 ? {} : { 'content-length': sizeOf(index) * MiB + 16 });
    if (request.method === 'HEAD' || index < 0) return void response.end();
    for (const part of bytesOf(index, sizeOf(index))) {
      if (!response.write(part)) await new Promise((resolve) => response.once('drain', resolve));
    }
    response.end();
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  proxy = await StandaloneProcess.start({
    FLOTILLA_REGISTRY_UPSTREAMS: `docker.io=http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
  });
}, 120_000);
afterAll(async () => {
  await proxy?.stop();
  upstream?.closeAllConnections();
  upstream?.close();
});

/** The first is what everybody pulls; the others are pulled side by side. */
function sizeOf(index: number): number {
  return index === 0 ? blobMiB : blobMiB / 4;
}

function open(digest: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get(`${proxy.url}/v2/big/data/blobs/${digest}`, { agent: false }, resolve).on('error', reject);
  });
}

/** Reads to the end. @returns bytes. */
async function drain(response: IncomingMessage): Promise<number> {
  let bytes = 0;
  response.on('data', (part: Buffer) => {
    bytes += part.length;
  });
  await finished(response);
  return bytes;
}

/** All clients at once; the slow ones begin to read when the others are done. */
async function pullByAll(): Promise<void> {
  const responses = await Promise.all(Array.from({ length: clients }, () => open(digests[0] ?? '')));
  const expected = blobMiB * MiB + 16;
  for (const part of [responses.slice(slowClients), responses.slice(0, slowClients)]) {
    for (const bytes of await Promise.all(part.map(drain))) expect(bytes).toBe(expected);
  }
}

const statusMiB = (field: string): number =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${proxy.pid}/status`, 'utf8'))?.[1]) / 1024;

/** What `work` adds to the resident memory at its worst moment. */
async function growthMiB(work: () => Promise<unknown>): Promise<number> {
  // Makes the kernel's record of the peak begin anew.
  writeFileSync(`/proc/${proxy.pid}/clear_refs`, '5');
  const before = statusMiB('VmRSS');
  await work();
  return statusMiB('VmHWM') - before;
}

it(
  `holds no more than a bound for ${clients} clients of ${blobMiB} MiB, cold and warm, and for several blobs at once`,
  async () => {
    expect(await growthMiB(pullByAll), 'cold').toBeLessThan(maxGrowthMiB);
    const several = async (): Promise<unknown> => Promise.all(digests.slice(1).map(async (digest) => drain(await open(digest))));
    expect(await growthMiB(several), 'several blobs').toBeLessThan(maxGrowthMiB);
    const atRest = statusMiB('VmRSS');
    expect(await growthMiB(pullByAll), 'warm').toBeLessThan(maxGrowthMiB);
    expect(statusMiB('VmRSS') - atRest, 'at the end').toBeLessThan(maxGrowthMiB / 2);
  },
  soak ? 3_600_000 : 240_000,
);

it('forgets clients that leave in the middle', async () => {
  const leave = async (): Promise<void> => {
    for (let round = 0; round < 10; round++) {
      const responses = await Promise.all(Array.from({ length: clients }, () => open(digests[0] ?? '')));
      for (const response of responses) response.destroy();
    }
  };
  await leave();
  const descriptors = (): number => readdirSync(`/proc/${proxy.pid}/fd`).length;
  const before = await waitFor(() => descriptors() <= atMostAtRest && descriptors(), { what: 'the first round to be forgotten' });
  expect(await growthMiB(leave)).toBeLessThan(maxGrowthMiB / 2);
  await waitFor(() => descriptors() <= before, { what: 'the other rounds to be forgotten' });
}, 120_000);
