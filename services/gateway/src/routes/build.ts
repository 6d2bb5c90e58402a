/** Routes of the builder. */
import type { IncomingMessage } from 'node:http';
import type { HostConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import { type Backends, long, unbounded } from '../backends.ts';
import { sameInstance } from '../buildkitDoor.ts';
import { olderThan } from '../http/apiVersion.ts';
import { filtersOf, toProto } from '../http/filters.ts';
import { boolean, integer, query, text } from '../http/query.ts';
import { clientGone, sendEmpty, sendJson } from '../http/respond.ts';
import { exchange, redeem } from '../streams/transfer.ts';
import { buildBySession } from './buildBySession.ts';

export function buildRoutes(router: Router, { builds, buildkit }: Backends): void {
  router.post(/^\/build$/, async (request, response) => {
    const wanted = buildRequest(request);
    const session = text(request, 'session');
    const signal = clientGone(response);
    // Without a session the context is the body, whatever builder the client has asked for.
    const isBySession = text(request, 'version') === '2' && session !== '';
    const { ticket } = isBySession
      ? await buildkit.build(buildBySession(wanted, session, text(request, 'outputs')), { ...long, ...sameInstance, signal })
      : await builds.build(wanted, { ...long, signal });
    await exchange(request, response, await redeem(ticket, signal), 'application/json', { verdict: true });
  });

  router.post(/^\/build\/prune$/, async (request, response) => {
    const space = (...names: string[]): bigint =>
      BigInt(Math.max(0, names.map((name) => integer(request, name)).find((bytes) => bytes !== undefined) ?? 0));
    const { ids, spaceReclaimed } = await builds.prune(
      {
        all: boolean(request, 'all'),
        filters: toProto(filtersOf(request)),
        keepStorage: space('reserved-space', 'keep-storage'),
        maxUsed: space('max-used-space'),
        minFree: space('min-free-space'),
      },
      unbounded,
    );
    sendJson(
      response,
      200,
      Buffer.from(`{"CachesDeleted":${JSON.stringify(ids.length === 0 ? null : ids)},"SpaceReclaimed":${spaceReclaimed}}`),
    );
  });

  router.post(/^\/build\/cancel$/, async (request, response) => {
    const id = text(request, 'id');
    if (id === '') throw new InvalidParameter('build ID not provided');
    await Promise.all([builds.cancel({ buildId: id }), buildkit.cancel({ ref: id }, sameInstance)]);
    sendEmpty(response, 200);
  });
}

type BuildRequest = Parameters<Backends['builds']['build']>[0];

/** Everything that can be refused before the context is read is refused here or by image-service's answer. */
function buildRequest(request: IncomingMessage): BuildRequest {
  checkVersion(text(request, 'version'));
  if (query(request).getAll('securityopt').length > 0) {
    throw new InvalidParameter('The daemon on this platform does not support setting security options on build');
  }
  const isolation = text(request, 'isolation').toLowerCase();
  if (!['', 'default'].includes(isolation))
    throw new InvalidParameter(`Unsupported isolation: ${JSON.stringify(text(request, 'isolation'))}`);
  if (boolean(request, 'squash')) throw new InvalidParameter('squash is only supported with experimental mode');
  if (text(request, 'version') !== '2' && text(request, 'outputs') !== '' && text(request, 'outputs') !== '[]') {
    throw new InvalidParameter('outputs are only supported by BuildKit (version=2)');
  }
  const force = boolean(request, 'forcerm');
  const buildArgs = document(request, 'buildargs', 'error reading build args', isStringOrNull);
  return {
    dockerfile: text(request, 'dockerfile'),
    tags: query(request).getAll('t'),
    remote: text(request, 'remote'),
    quiet: boolean(request, 'q'),
    noCache: boolean(request, 'nocache'),
    cacheFrom: stringList(request, 'cachefrom'),
    pull: boolean(request, 'pull'),
    remove: force || boolean(request, 'rm', true) || text(request, 'rm') === '',
    forceRemove: force,
    buildArgsJson: Buffer.from(JSON.stringify(buildArgs)),
    labels: document(request, 'labels', 'error reading labels', isString),
    target: text(request, 'target'),
    platform: olderThan(request, '1.32') ? '' : text(request, 'platform'),
    hostConfigJson: Buffer.from(JSON.stringify(hostConfig(request))),
    registryConfig: header(request, 'x-registry-config'),
    buildId: text(request, 'buildid'),
    aux: !olderThan(request, '1.30'),
  };
}

function checkVersion(version: string): void {
  if (!['', '1', '2'].includes(version)) throw new InvalidParameter(`invalid version ${version}`);
}

function hostConfig(request: IncomingMessage): HostConfig {
  const shmSize = text(request, 'shmsize');
  if (shmSize !== '' && !/^[+-]?[0-9]+$/.test(shmSize)) {
    throw new InvalidParameter(`strconv.ParseInt: parsing ${JSON.stringify(shmSize)}: invalid syntax`);
  }
  const extraHosts = query(request).getAll('extrahosts');
  const numbers = {
    Memory: number(request, 'memory'),
    MemorySwap: number(request, 'memswap'),
    CpuShares: number(request, 'cpushares'),
    CpuPeriod: number(request, 'cpuperiod'),
    CpuQuota: number(request, 'cpuquota'),
    ShmSize: Number(shmSize),
  };
  const texts = {
    CpusetCpus: text(request, 'cpusetcpus'),
    CpusetMems: text(request, 'cpusetmems'),
    CgroupParent: text(request, 'cgroupparent'),
    NetworkMode: text(request, 'networkmode'),
  };
  return {
    ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== 0)),
    ...Object.fromEntries(Object.entries(texts).filter(([, value]) => value !== '')),
    ...(extraHosts.length === 0 ? {} : { ExtraHosts: extraHosts }),
    Ulimits: ulimits(text(request, 'ulimits')),
  };
}

/** As dockerd reads these numbers: what is none counts as nothing. */
function number(request: IncomingMessage, name: string): number {
  const value = text(request, name);
  return /^[+-]?[0-9]+$/.test(value) && Number.isSafeInteger(Number(value)) ? Number(value) : 0;
}

function ulimits(json: string): NonNullable<HostConfig['Ulimits']> {
  if (json === '') return [];
  const list = parse(json, 'error reading ulimit settings');
  const isUlimit = (each: unknown): each is { Name: string; Hard?: number; Soft?: number } =>
    typeof each === 'object' && each !== null && typeof (each as { Name?: unknown }).Name === 'string';
  if (list === null) return [];
  if (!Array.isArray(list) || !list.every(isUlimit)) {
    throw new InvalidParameter('error reading ulimit settings: json: cannot unmarshal value into Go value of type []*units.Ulimit');
  }
  return list.map(({ Name, Hard, Soft }) => ({ Name, Hard: Hard ?? 0, Soft: Soft ?? 0 }));
}

function stringList(request: IncomingMessage, name: string): string[] {
  const json = text(request, name);
  if (json === '') return [];
  const list = parse(json, `error reading ${name}`);
  if (list === null) return [];
  if (!Array.isArray(list) || !list.every(isString))
    throw new InvalidParameter(`error reading ${name}: json: cannot unmarshal value into []string`);
  return list;
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

function isStringOrNull(value: unknown): value is string | null {
  return value === null || isString(value);
}

function document<T>(
  request: IncomingMessage,
  name: string,
  complaint: string,
  isValue: (value: unknown) => value is T,
): Record<string, T> {
  const json = text(request, name);
  if (json === '') return {};
  const parsed = parse(json, complaint);
  if (parsed === null) return {};
  if (typeof parsed !== 'object' || Array.isArray(parsed))
    throw new InvalidParameter(`${complaint}: json: cannot unmarshal value into a map`);
  for (const value of Object.values(parsed)) {
    if (!isValue(value)) throw new InvalidParameter(`${complaint}: json: cannot unmarshal ${typeof value} into Go value of type string`);
  }
  return parsed as Record<string, T>;
}

function parse(json: string, complaint: string): unknown {
  try {
    return JSON.parse(json);
  } catch (cause) {
    throw new InvalidParameter(`${complaint}: invalid character in JSON`, { cause });
  }
}

function header(request: IncomingMessage, name: string): string {
  const value = request.headers[name];
  return typeof value === 'string' ? value : '';
}
