/** The gRPC service Builds: decodes, calls, encodes. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { BuildRequest, BuildsService } from '@flotilla/contracts/flotilla/image/v1/builds';
import type { HostConfig } from '@flotilla/engine-api';
import { errorKind, errorMessage, InvalidParameter } from '@flotilla/errors';
import { familiarString, parseReference, type Reference, withDefaultTag } from '@flotilla/oci';
import type { Handlers, Logger } from '@flotilla/service-kit';
import { encodeLine, lastWord, type TicketServer, writeAll } from '@flotilla/streams';
import type { Builder, ClassicBuild } from '../build/builder.ts';
import type { CacheUse } from '../build/cacheUse.ts';
import { credentialsOf } from '../build/credentials.ts';
import type { BuildOptions } from '../build/options.ts';
import { CommandFailed } from '../build/runStep.ts';
import { pruneEvent } from '../events.ts';
import type { ImageStore } from '../imageStore.ts';
import { LineQueue } from '../lineQueue.ts';
import { failure } from '../progress.ts';
import { toFilters, toJson, toPlatform } from './convert.ts';

export interface BuildParts {
  readonly builder: Builder;
  readonly cacheUse: CacheUse;
  readonly store: Pick<ImageStore, 'announce'>;
  readonly tickets: TicketServer;
  readonly logger: Logger;
}

export function buildHandlers({ builder, cacheUse, store, tickets, logger }: BuildParts): Handlers<typeof BuildsService> {
  return {
    async build(request) {
      const options = toBuildOptions(request);
      const credentials = credentialsOf(toCredentials(request.registryConfig));
      return { ticket: tickets.issue((body, signal) => serve({ options, credentials, body }, body, signal)) };
    },

    async cancel({ buildId }) {
      builder.cancel(buildId);
      return {};
    },

    async cache() {
      return { recordsJson: toJson(await cacheUse.list()) };
    },

    async prune({ all, filters, keepStorage, maxUsed, minFree }) {
      const space = { reserved: Number(keepStorage), maxUsed: Number(maxUsed), minFree: Number(minFree) };
      const { ids, freedBytes } = await cacheUse.prune({ all, filters: toFilters(filters), space });
      await store.announce([pruneEvent('builder', freedBytes)]);
      return { ids, spaceReclaimed: BigInt(freedBytes) };
    },
  };

  async function serve(build: ClassicBuild, stream: Socket, signal: AbortSignal): Promise<void> {
    const queue = new LineQueue();
    builder.build(build, queue.push, signal).then(
      () => queue.end(),
      (error: unknown) => queue.end(error ?? new Error('failed')),
    );
    let began = false;
    const begin = async (verdict: object): Promise<void> => {
      if (began) return;
      began = true;
      await writeAll(stream, encodeLine(verdict));
    };
    try {
      for await (const line of queue.read()) {
        await begin({});
        await writeAll(stream, encodeLine(line));
      }
      await begin({});
      await writeAll(stream, lastWord);
    } catch (error) {
      logger.debug({ error }, 'a build failed');
      if (signal.aborted) return;
      // What of the context nobody has read is thrown away: closing on it would cost the client the answer.
      stream.resume();
      if (!began) await begin({ error: errorKind(error), message: errorMessage(error) });
      else await writeAll(stream, encodeLine(describe(error)));
      await writeAll(stream, lastWord);
      if (!stream.readableEnded) await once(stream, 'end', { signal });
    }
  }
}

function describe(error: unknown): ReturnType<typeof failure> {
  const message = errorMessage(error);
  return error instanceof CommandFailed ? { errorDetail: { code: error.code, message }, error: message } : failure(message);
}

/** @throws InvalidParameter for what no build could do. */
function toBuildOptions(request: BuildRequest): BuildOptions {
  const buildArgs = JSON.parse(Buffer.from(request.buildArgsJson).toString('utf8') || '{}') as Record<string, string | null>;
  return {
    dockerfile: request.dockerfile,
    tags: toTags(request.tags),
    remote: request.remote,
    quiet: request.quiet,
    noCache: request.noCache ? 'all' : [],
    cacheFrom: request.cacheFrom,
    pull: request.pull,
    remove: request.remove,
    forceRemove: request.forceRemove,
    buildArgs: new Map(Object.entries(buildArgs).map(([name, value]) => [name, value ?? undefined])),
    labels: new Map(Object.entries(request.labels)),
    target: request.target,
    platform: toPlatform(request.platform),
    hostConfig: JSON.parse(Buffer.from(request.hostConfigJson).toString('utf8') || '{}') as HostConfig,
    buildId: request.buildId,
    aux: request.aux,
    cacheOnly: false,
    manner: 'classic',
  };
}

function toTags(names: readonly string[]): Reference[] {
  const tags = new Map<string, Reference>();
  for (const name of names) {
    if (name === '') continue;
    const reference = parseReference(name);
    if (reference.digest !== undefined) throw new InvalidParameter('build tag cannot contain a digest');
    const tag = withDefaultTag(reference);
    tags.set(familiarString(tag), tag);
  }
  return [...tags.values()];
}

/** What cannot be read counts as nothing: a pull without credentials is no error. */
function toCredentials(header: string): ReadonlyMap<string, unknown> {
  try {
    const document: unknown = JSON.parse(Buffer.from(header, 'base64').toString('utf8'));
    return typeof document === 'object' && document !== null ? new Map(Object.entries(document)) : new Map();
  } catch {
    return new Map();
  }
}
