/**
 * Replicas on different data roots as one proxy: for each piece of content one of them asks the upstream, the others ask that one, by the same
 * paths as any client, and follow its file as it grows. When it dies the next in rank goes on, from where its own copy ends.
 *
 * What a replica asks is answered by the one asked, never passed on, so a moment of different opinions makes no circle; a lease in Redis
 * keeps two from asking the upstream in that moment.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { outgoingHeaders } from '@flotilla/service-kit';
import { credentialsHeader } from '../credentials.ts';
import { UpstreamAway } from '../distributionError.ts';
import { ownRegistry, repositoryKey } from '../route.ts';
import { refusalOf } from '../upstream/refusal.ts';
import type { Sender, TransportRequest, TransportResponse } from '../upstream/transport.ts';
import type { Upstream, UpstreamAnswer, UpstreamRequest } from '../upstream/upstream.ts';
import type { Leases } from './lease.ts';
import type { Replica } from './redis.ts';
import type { Roll } from './roll.ts';

export interface FleetParts {
  readonly upstream: Pick<Upstream, 'request'>;
  readonly roll: Roll;
  readonly leases: Leases;
  readonly sender: Sender;
}

const replicaHeader = 'x-flotilla-replica';

/** A request to be passed on: its path with the query. */
type KeeperRequest = Pick<TransportRequest, 'method' | 'headers' | 'body' | 'signal'> & { readonly path: string };

const limits = { connectTimeoutMs: 2_000, headersTimeoutMs: 90_000, bodyIdleTimeoutMs: 60_000 };

/** Set while a request of another replica is served, and in the fetch that it began. */
const forReplica = new AsyncLocalStorage<true>();

export class Fleet {
  private readonly parts: FleetParts;
  /** Answers under way, by replica: they are cut when it is gone, for a dead host says nothing. */
  private readonly answers = new Map<string, Set<TransportResponse>>();

  constructor(parts: FleetParts) {
    this.parts = parts;
  }

  /** Whether a request comes from another replica. */
  isReplica({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
    const given = Buffer.from(String(headers[replicaHeader] ?? ''));
    const wanted = Buffer.from(this.parts.roll.self.token);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }

  /** Serves another replica's request: nothing of it is asked of replicas again. */
  serve(work: () => void): void {
    forReplica.run(true, work);
  }

  /** As Upstream's: of the replica that answers for it, or of the upstream. Own repositories are had from the one who keeps them. */
  async request(request: UpstreamRequest): Promise<UpstreamAnswer> {
    if (request.repository.registry === ownRegistry) return this.ofKeeper(request);
    const reads = request.method === 'GET' || request.method === 'HEAD';
    if (!reads || !/^(?:blobs|manifests)\//.test(request.path)) return this.parts.upstream.request(request);
    if (forReplica.getStore() === undefined) {
      for (const replica of this.parts.roll.before(keyOf(request))) {
        const answer = await this.tryReplica(replica, request);
        if (answer !== undefined) return answer;
      }
    }
    return request.method === 'GET' && request.path.startsWith('blobs/') ? this.withLease(request) : this.parts.upstream.request(request);
  }

  private async withLease(request: UpstreamRequest): Promise<UpstreamAnswer> {
    const key = keyOf(request);
    for (let dead = ''; ; ) {
      const lease = await this.parts.leases.take(key, dead);
      if ('holder' in lease) {
        const holder = this.parts.roll.get(lease.holder);
        const answer = holder === undefined ? undefined : await this.tryReplica(holder, request);
        if (answer !== undefined) return answer;
        dead = lease.holder;
        continue;
      }
      try {
        const answer = await this.parts.upstream.request(request);
        answer.response.once('close', lease.release);
        return answer;
      } catch (error) {
        lease.release();
        throw error;
      }
    }
  }

  /** @returns undefined when it cannot be reached or is not well itself. @throws UpstreamRefusal: what the upstream told it. */
  private async tryReplica(replica: Replica, request: UpstreamRequest): Promise<UpstreamAnswer | undefined> {
    const { repository, method, path, credentials, signal } = request;
    const registryAuth = credentialsHeader(credentials);
    const url = new URL(`${replica.url}/v2/${repositoryKey(repository)}/${path}`);
    const response = await this.send(replica, {
      method,
      url,
      headers: { ...request.headers, ...(registryAuth === '' ? {} : { 'x-registry-auth': registryAuth }) },
      ...(signal === undefined ? {} : { signal }),
    });
    if (response === undefined) return undefined;
    if (response.statusCode >= 200 && response.statusCode < 300) {
      const endpoint = { base: replica.url, host: url.host, mirror: false, verifyTls: true };
      return { response, url, endpoint, disown: () => false };
    }
    const refusal = await refusalOf(response, request.missing);
    // Its own fault, not an upstream's.
    if (refusal.status === 500 && refusal.code === 'UNKNOWN') return undefined;
    throw refusal;
  }

  /** @returns undefined when it cannot be reached. */
  private async send(
    replica: Replica,
    request: Pick<TransportRequest, 'method' | 'url' | 'headers' | 'body' | 'signal'>,
  ): Promise<TransportResponse | undefined> {
    let response: TransportResponse;
    try {
      response = await this.parts.sender.send({
        ...request,
        headers: {
          ...request.headers,
          [replicaHeader]: replica.token,
          ...outgoingHeaders(),
        },
        verifyTls: true,
        ...(replica.certificate === undefined ? {} : { tls: { id: `replica ${replica.id}`, pinned: replica.certificate } }),
        limits,
      });
    } catch {
      request.signal?.throwIfAborted();
      this.parts.roll.noteDown(replica);
      return undefined;
    }
    this.follow(replica, response);
    return response;
  }

  /** Whether the own repositories are on our data root. */
  get keepsOwn(): boolean {
    return this.parts.roll.keepsOwn;
  }

  private async ofKeeper(request: UpstreamRequest): Promise<UpstreamAnswer> {
    for (const replica of this.keepers()) {
      const answer = await this.tryReplica(replica, request);
      if (answer !== undefined) return answer;
    }
    throw keeperAway();
  }

  /** Asks the replica that keeps the own repositories; any answer of its counts. @throws UpstreamAway */
  async askKeeper({ path, ...request }: KeeperRequest): Promise<TransportResponse> {
    for (const replica of this.keepers()) {
      const response = await this.send(replica, { ...request, url: new URL(replica.url + path) });
      if (response !== undefined) return response;
      // What has been read of a body cannot be sent again.
      if (request.body !== undefined) break;
    }
    throw keeperAway();
  }

  private keepers(): readonly Replica[] {
    const keepers = this.parts.roll.keepers();
    if (keepers === undefined) throw away('it is not known which replica keeps the repositories of this proxy: Redis is away');
    // Whoever asked us takes us for the one: passing it on could go in a circle.
    if (forReplica.getStore() !== undefined) throw away('the repositories of this proxy are not kept by this replica');
    return keepers;
  }

  private follow({ id }: Replica, response: TransportResponse): void {
    const answers = this.answers.get(id) ?? new Set();
    this.answers.set(id, answers.add(response));
    response.once('close', () => {
      answers.delete(response);
      if (answers.size === 0 && this.answers.get(id) === answers) this.answers.delete(id);
    });
  }

  /** A replica has left or died: what it still owes is asked of another. */
  onGone(id: string): void {
    for (const response of this.answers.get(id) ?? []) {
      response.destroy(new UpstreamAway('the replica that fetched it is gone', { status: 502 }));
    }
  }
}

function away(message: string): UpstreamAway {
  return new UpstreamAway(message, { status: 503 });
}

function keeperAway(): UpstreamAway {
  return away('the replica that keeps the repositories of this proxy cannot be reached');
}

/** A blob is the same wherever it comes from; a manifest is asked for by the repository. */
function keyOf({ repository, path }: UpstreamRequest): string {
  return path.startsWith('blobs/') ? path : `${repository.registry}/${repository.name}/${path}`;
}
