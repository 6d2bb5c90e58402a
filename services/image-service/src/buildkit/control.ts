/** Control: builds that are asked for and followed, and the cache. */
import type { Readable } from 'node:stream';
import {
  type DiskUsageRequest,
  type DiskUsageResponse,
  type Exporter,
  type InfoResponse,
  type ListWorkersResponse,
  type PruneRequest,
  type SolveRequest,
  SolveResponse,
  type StatusRequest,
  type StatusResponse,
  UsageRecord,
} from '@flotilla/contracts/moby/buildkit/v1/control';
import { InvalidParameter, NotImplemented } from '@flotilla/errors';
import type { Made } from '../build/builder.ts';
import type { CacheUse } from '../build/cacheUse.ts';
import type { Bridge } from './bridge.ts';
import { readEntitlements } from './entitlements.ts';
import { checkExporters, type Exporters } from './exporter.ts';
import { StatusError, toStatus } from './failure.ts';
import type { Job, Jobs } from './job.ts';
import { buildkitVersion, type WorkerList } from './workers.ts';

export interface ControlParts {
  readonly jobs: Jobs;
  readonly bridge: Bridge;
  readonly exporters: Exporters;
  readonly cacheUse: CacheUse;
  readonly workers: WorkerList;
}

export class Control {
  private readonly parts: ControlParts;

  constructor(parts: ControlParts) {
    this.parts = parts;
  }

  /**
   * Lasts until the build is over: its client steers it meanwhile, unless it names the frontend here.
   *
   * @param body - a tar that is the context, where the client sends it beside its session.
   */
  async solve(request: SolveRequest, signal: AbortSignal, body?: Readable): Promise<SolveResponse> {
    const { jobs } = this.parts;
    if ((request.definition?.def.length ?? 0) > 0)
      throw new NotImplemented('this engine builds from Dockerfiles: it does not solve definitions');
    const exporters = exportersOf(request);
    checkExporters(exporters);
    const job = jobs.open(request.ref, request.session, readEntitlements(request.entitlements), body);
    const cancel = (): void => job.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      this.checkNames(job, exporters);
      const made = request.frontend === '' ? await this.steered(job) : await this.direct(job, request);
      const response = made === undefined ? {} : await this.parts.exporters.export(job, made, exporters);
      // All has been said; what is left is to clear away, which goes on behind the answer.
      job.progress.end();
      void jobs.close(job);
      return SolveResponse.fromPartial({ exporterResponse: response });
    } catch (error) {
      await jobs.close(job);
      if (error instanceof StatusError || job.signal.aborted) throw error;
      throw new StatusError(toStatus(error, undefined));
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  /** A build whose names are refused does not begin, whatever its client still asks for. */
  private checkNames(job: Job, exporters: readonly Exporter[]): void {
    try {
      this.parts.exporters.check(exporters);
    } catch (error) {
      job.cancel();
      throw new StatusError(toStatus(error, undefined));
    }
  }

  /** What the client has returned; undefined when that is nothing. */
  private async steered(job: Job): Promise<Made | undefined> {
    const { result, error } = await job.returned;
    if (error !== undefined && error.code !== 0) throw new StatusError(error);
    return madeOf(
      job,
      result?.ref?.id ?? '',
      Object.values(result?.refs?.refs ?? {}).map(({ id }) => id),
    );
  }

  private async direct(job: Job, request: SolveRequest): Promise<Made | undefined> {
    const { result } = await this.parts.bridge.solve(job, {
      definition: undefined,
      frontend: request.frontend,
      frontendOpt: request.frontendAttrs,
      cacheImports: request.cache?.imports ?? [],
      frontendInputs: request.frontendInputs,
      evaluate: true,
    });
    return madeOf(job, result?.ref?.id ?? '', []);
  }

  /** Everything a build shows, to its end. */
  async *status({ ref }: StatusRequest, signal: AbortSignal): AsyncIterable<StatusResponse> {
    const job = await this.parts.jobs.wait(ref, signal);
    yield* job.progress.read(signal);
  }

  async listWorkers(): Promise<ListWorkersResponse> {
    return { record: await this.parts.workers() };
  }

  async info(): Promise<InfoResponse> {
    return { buildkitVersion };
  }

  /** @throws InvalidParameter for a wrong filter. */
  async diskUsage({ filter }: DiskUsageRequest): Promise<DiskUsageResponse> {
    return { record: await this.usage(toFilters(filter)) };
  }

  private async usage(filters: Map<string, string[]>): Promise<UsageRecord[]> {
    return (await this.parts.cacheUse.matching(filters)).map((record) =>
      UsageRecord.fromPartial({
        id: record.ID,
        mutable: record.Type !== 'regular',
        inUse: record.InUse,
        size: BigInt(record.Size),
        createdAt: toTimestamp(record.CreatedAt),
        lastUsedAt: toTimestamp(record.LastUsedAt ?? record.CreatedAt),
        usageCount: BigInt(record.UsageCount),
        description: record.Description,
        recordType: record.Type,
        shared: record.Shared,
        parents: record.Parents ?? [],
      }),
    );
  }

  /** @returns what was removed. */
  async *prune({ all, keepBytes, maxUsedSpace, minFreeSpace, keepDuration, filter }: PruneRequest): AsyncIterable<UsageRecord> {
    const before = await this.usage(new Map());
    const seconds = keepDuration / 1_000_000_000n;
    const filters = toFilters(filter);
    if (seconds > 0n) filters.set('until', [`${seconds}s`]);
    const space = { reserved: Number(keepBytes), maxUsed: Number(maxUsedSpace), minFree: Number(minFreeSpace) };
    const { ids } = await this.parts.cacheUse.prune({ all, filters, space });
    const removed = new Set(ids);
    yield* before.filter(({ id }) => removed.has(id));
  }
}

/** Newer clients fill both forms, older ones the first alone. */
function exportersOf({ exporters, exporterDeprecated, exporterAttrsDeprecated }: SolveRequest): Exporter[] {
  if (exporters.length > 0 || exporterDeprecated === '') return exporters;
  return [{ type: exporterDeprecated, attrs: exporterAttrsDeprecated }];
}

function madeOf(job: Job, id: string, others: readonly string[]): Made | undefined {
  const wanted = [id, ...others].filter(Boolean);
  if (wanted.length > 1) throw new InvalidParameter('results for several platforms are not served');
  const [only] = wanted;
  if (only === undefined) return undefined;
  const made = job.results.get(only);
  if (made === undefined) throw new InvalidParameter(`the build has no result ${only}`);
  return made;
}

/** `type==regular,id~=^abc`: the client's own way to write filters. */
function toFilters(filters: readonly string[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const part of filters.flatMap((filter) => filter.split(',')).filter(Boolean)) {
    const [, key = '', operator = '', value = 'true'] = /^([\w.-]+)(?:(~=|={1,2})(.*))?$/.exec(part) ?? [];
    if (key === '') throw new InvalidParameter(`invalid filter ${part}`);
    // Ids are asked for by their start, and compared so.
    const wanted = operator === '~=' ? value.replace(/^\^/, '') : value;
    found.set(key, [...(found.get(key) ?? []), wanted]);
  }
  return found;
}

function toTimestamp(time: string): { seconds: bigint; nanos: number } {
  const ms = BigInt(Date.parse(time));
  return { seconds: ms / 1000n, nanos: Number(ms % 1000n) * 1_000_000 };
}
