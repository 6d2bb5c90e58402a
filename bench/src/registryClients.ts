/**
 * The clients of the registry bench, in one process inside the test host: `node registryClients.ts JOB`. They read and throw away what they get, so that
 * what is measured is the registry; nothing is hashed or written.
 */
import { Agent, get, type IncomingMessage } from 'node:http';
import { inParallel } from './statistics.ts';

export type RegistryJob =
  /** Each client gets the manifest of a tag, then its blobs, three at a time as dockerd does. */
  | {
      readonly kind: 'pull';
      readonly url: string;
      readonly repository: string;
      readonly clients: number;
      /** Own addresses, one a client: each is then a host of its own to the registry, with connections of its own. */
      readonly addresses?: readonly string[];
    }
  /** Clients get the first layer over and over. */
  | { readonly kind: 'blob'; readonly url: string; readonly repository: string; readonly clients: number; readonly times: number }
  | {
      readonly kind: 'manifests';
      readonly url: string;
      readonly repository: string;
      readonly by: 'tag' | 'digest';
      readonly requests: number;
    };

export interface RegistryOutcome {
  readonly ms: number;
  /** Bytes of blobs, of all clients together. */
  readonly bytes: number;
  /** Milliseconds from the start to each client's first byte of a layer, in the order they came. */
  readonly firstByteMs: readonly number[];
}

interface Manifest {
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string; readonly size: number }[];
}

const newAgent = (localAddress?: string): Agent =>
  new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, ...(localAddress === undefined ? {} : { localAddress }) });
const everyone = newAgent();
const accept = 'application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json';
const manifestWorkers = 16;

function open(url: string, agent = everyone): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get(url, { agent, headers: { accept } }, (response) => {
      if (response.statusCode === 200) resolve(response);
      else reject(new Error(`${url}: ${response.statusCode}`));
    }).on('error', reject);
  });
}

/** Reads a body to its end. @returns bytes. */
async function drain(response: IncomingMessage, onFirst?: () => void): Promise<number> {
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    if (bytes === 0) onFirst?.();
    bytes += chunk.length;
  });
  await new Promise<void>((resolve, reject) =>
    response
      .on('end', resolve)
      .on('error', reject)
      .on('aborted', () => reject(new Error('cut'))),
  );
  return bytes;
}

async function manifestOf(base: string, agent = everyone): Promise<{ manifest: Manifest; digest: string }> {
  const response = await open(`${base}/manifests/1`, agent);
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return {
    manifest: JSON.parse(Buffer.concat(chunks).toString('utf8')) as Manifest,
    digest: String(response.headers['docker-content-digest']),
  };
}

async function run(job: RegistryJob): Promise<RegistryOutcome> {
  const base = `${job.url}/v2/${job.repository}`;
  const firstByteMs: number[] = [];
  let bytes = 0;
  let start = performance.now();
  const blob = async (digest: string, onFirst?: () => void, agent = everyone): Promise<void> => {
    const response = await open(`${base}/blobs/${digest}`, agent);
    const length = await drain(response, onFirst);
    if (length !== Number(response.headers['content-length'] ?? length)) throw new Error(`${digest} was cut`);
    bytes += length;
  };
  switch (job.kind) {
    case 'pull':
      await inParallel(job.clients, job.clients, async (client) => {
        const address = job.addresses?.[client];
        const agent = address === undefined ? everyone : newAgent(address);
        const { manifest } = await manifestOf(base, agent);
        let isFirst = true;
        const onFirst = (): void => {
          if (isFirst) firstByteMs.push(performance.now() - start);
          isFirst = false;
        };
        await inParallel(manifest.layers.length, 3, (index) => blob(manifest.layers[index]?.digest ?? '', onFirst, agent));
        await blob(manifest.config.digest, undefined, agent);
        if (agent !== everyone) agent.destroy();
      });
      break;
    case 'blob': {
      const layer = (await manifestOf(base)).manifest.layers[0]?.digest ?? '';
      start = performance.now();
      await inParallel(job.clients * job.times, job.clients, () => blob(layer));
      break;
    }
    case 'manifests': {
      const reference = job.by === 'tag' ? '1' : (await manifestOf(base)).digest;
      start = performance.now();
      await inParallel(job.requests, manifestWorkers, async () => void (await drain(await open(`${base}/manifests/${reference}`))));
    }
  }
  return { ms: performance.now() - start, bytes, firstByteMs: firstByteMs.sort((a, b) => a - b) };
}

process.stdout.write(JSON.stringify(await run(JSON.parse(process.argv[2] ?? '{}') as RegistryJob)));
everyone.destroy();
