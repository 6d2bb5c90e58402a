/** Routes of containers: records and life cycle. Streams are in containerStreams.ts, archives in containerArchive.ts. */

import type { IncomingMessage } from 'node:http';
import { WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { buildLabel, containerCreateRequest, containerUpdateRequest } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import { AgeingList } from '../ageingList.ts';
import { type Backends, long, read, unbounded } from '../backends.ts';
import { type Copies, copyKey, documentBytes } from '../copies.ts';
import type { Events } from '../events/follow.ts';
import { compareVersions, olderThan, versionOf } from '../http/apiVersion.ts';
import { optionalJson, requiredJson } from '../http/body.ts';
import { filtersOf, toProto } from '../http/filters.ts';
import { boolean, integer, terminalSize, text } from '../http/query.ts';
import { clientGone, sendEmpty, sendJson, sendNoContent } from '../http/respond.ts';
import { shimContainerInspect, shimContainerList } from '../shims/containerAnswers.ts';
import { shimContainerCreate } from '../shims/containerCreate.ts';
import { type Condition, waitForExit } from '../waiting.ts';
import { name } from './parameters.ts';

/** Fields of a create request that are not the container's own configuration. */
const besideConfig = new Set(['HostConfig', 'NetworkingConfig']);

export interface ContainerRouteOptions {
  readonly backends: Backends;
  readonly copies: Copies;
  readonly events: Events;
  /** Whether the host has the unified cgroup hierarchy: what older versions default to depends on it. */
  readonly cgroupV2: boolean;
}

export function containerRoutes(router: Router, { backends: { containers }, copies, events, cgroupV2 }: ContainerRouteOptions): void {
  router.get(/^\/containers\/json$/, async (request, response) => {
    const list = async (): Promise<AgeingList> => {
      const { containersJson, ages } = await containers.list(listRequest(request), read);
      const version = versionOf(request);
      return new AgeingList(containersJson, ages, (json) => documentBytes(shimContainerList(json, version)));
    };
    // Sizes change without a record, and filters may depend on other services' records.
    const plain = !boolean(request, 'size') && text(request, 'filters') === '';
    sendJson(response, 200, plain ? await copies.containerLists.read(copyKey(request), list) : (await list()).bytes());
  });

  router.get(/^\/containers\/(?<name>.*)\/json$/, async (request, response) => {
    const size = boolean(request, 'size');
    const inspect = async (): Promise<Uint8Array> => {
      const { containerJson } = await containers.inspect({ container: name(request), size }, read);
      return documentBytes(shimContainerInspect(containerJson, versionOf(request)));
    };
    sendJson(response, 200, size ? await inspect() : await copies.containers.read(copyKey(request), inspect));
  });

  router.post(/^\/containers\/create$/, async (request, response) => {
    const config = await requiredJson(request, containerCreateRequest);
    if (config === undefined || !Object.keys(config).some((key) => !besideConfig.has(key))) {
      throw new InvalidParameter('config cannot be empty in order to create a container');
    }
    if (config.Labels?.[buildLabel] !== undefined) throw new InvalidParameter(`the label ${buildLabel} is reserved for steps of builds`);
    const warnings = shimContainerCreate(config, versionOf(request), cgroupV2);
    const created = await containers.create(
      {
        name: text(request, 'name'),
        platform: olderThan(request, '1.41') ? '' : text(request, 'platform'),
        configJson: Buffer.from(JSON.stringify(config)),
        readOnlyBindsNonRecursive: olderThan(request, '1.44'),
      },
      long,
    );
    sendJson(response, 201, { Id: created.id, Warnings: [...created.warnings, ...warnings] });
  });

  router.post(/^\/containers\/(?<name>.*)\/start$/, async (request, response) => {
    const length = request.headers['content-length'];
    if (request.headers['transfer-encoding'] !== undefined || Number(length ?? 0) > 7) {
      throw new InvalidParameter('starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24');
    }
    request.resume();
    if (text(request, 'checkpoint') !== '') throw new InvalidParameter('checkpoint is only supported in experimental mode');
    const askedAtNano = BigInt(Date.now()) * 1_000_000n;
    await containers.start({ container: name(request), askedAtNano }, { ...long, ...read });
    sendNoContent(response);
  });

  router.post(/^\/containers\/(?<name>.*)\/stop$/, async (request, response) => {
    await containers.stop({ container: name(request), ...stopOptions(request) }, { ...unbounded, ...read });
    sendNoContent(response);
  });

  router.post(/^\/containers\/(?<name>.*)\/restart$/, async (request, response) => {
    await containers.restart({ container: name(request), ...stopOptions(request) }, unbounded);
    sendNoContent(response);
  });

  router.post(/^\/containers\/(?<name>.*)\/kill$/, async (request, response) => {
    await containers.kill({ container: name(request), signal: text(request, 'signal') });
    sendNoContent(response);
  });

  router.post(/^\/containers\/(?<name>.*)\/pause$/, async (request, response) => {
    await containers.pause({ container: name(request) });
    sendNoContent(response);
  });

  router.post(/^\/containers\/(?<name>.*)\/unpause$/, async (request, response) => {
    await containers.unpause({ container: name(request) });
    sendNoContent(response);
  });

  router.post(/^\/containers\/(?<name>.*)\/rename$/, async (request, response) => {
    await containers.rename({ container: name(request), newName: text(request, 'name') });
    sendNoContent(response);
  });

  router.post(/^\/containers\/(?<name>.*)\/resize$/, async (request, response) => {
    const height = terminalSize(request, 'h', 'height');
    const width = terminalSize(request, 'w', 'width');
    await containers.resize({ container: name(request), height, width });
    sendEmpty(response, 200);
  });

  router.post(/^\/containers\/(?<name>.*)\/update$/, async (request, response) => {
    const update = await optionalJson(request, containerUpdateRequest);
    const version = versionOf(request);
    if (compareVersions(version, '1.40') < 0) delete update.PidsLimit;
    if (compareVersions(version, '1.42') >= 0) delete update.KernelMemory;
    if (update.PidsLimit !== undefined && update.PidsLimit <= 0) update.PidsLimit = 0;
    const { warnings } = await containers.update({ container: name(request), updateJson: Buffer.from(JSON.stringify(update)) });
    sendJson(response, 200, { Warnings: warnings.length > 0 ? warnings : null });
  });

  router.post(/^\/containers\/(?<name>.*)\/wait$/, async (request, response) => {
    const before130 = olderThan(request, '1.30');
    const condition = before130 ? WaitCondition.NOT_RUNNING : waitCondition(text(request, 'condition'));
    const result = await waitForExit({
      containers,
      events,
      container: name(request),
      condition,
      signal: clientGone(response),
      onFound: () => {
        if (before130) return;
        // `docker run` starts the container only when it has these headers.
        response.writeHead(200, { 'Content-Type': 'application/json' });
        response.flushHeaders();
      },
    });
    if (result === undefined) {
      response.destroy();
      return;
    }
    // Before 1.34 an answer had no place for a failure: it was left empty.
    if (result.error !== '' && olderThan(request, '1.34')) {
      response.end();
      return;
    }
    const document = { StatusCode: result.exitCode, ...(result.error === '' ? {} : { Error: { Message: result.error } }) };
    if (response.headersSent) response.end(`${JSON.stringify(document)}\n`);
    else sendJson(response, 200, document);
  });

  router.delete(/^\/containers\/(?<name>.*)$/, async (request, response) => {
    await containers.remove(
      {
        container: name(request),
        force: boolean(request, 'force'),
        removeVolumes: boolean(request, 'v'),
        removeLink: boolean(request, 'link'),
      },
      long,
    );
    sendNoContent(response);
  });

  router.post(/^\/containers\/prune$/, async (request, response) => {
    const { ids, spaceReclaimed } = await containers.prune({ filters: toProto(filtersOf(request)) }, long);
    sendJson(response, 200, { ContainersDeleted: ids.length > 0 ? ids : null, SpaceReclaimed: Number(spaceReclaimed) });
  });

  router.get(/^\/containers\/(?<name>.*)\/top$/, async (request, response) => {
    const { titles, processes } = await containers.top({ container: name(request), psArgs: text(request, 'ps_args') });
    sendJson(response, 200, { Titles: titles, Processes: processes.map((process) => process.fields) });
  });

  router.get(/^\/containers\/(?<name>.*)\/changes$/, async (request, response) => {
    const { changes } = await containers.changes({ container: name(request) }, long);
    sendJson(response, 200, changes.length > 0 ? changes.map(({ path, kind }) => ({ Path: path, Kind: kind })) : null);
  });
}

/** A limit shows stopped containers too. */
function listRequest(request: IncomingMessage): Parameters<Backends['containers']['list']>[0] {
  const limit = integer(request, 'limit') ?? 0;
  return {
    all: boolean(request, 'all') || limit > 0,
    limit: Math.min(Math.max(0, limit), 0xffffffff),
    size: boolean(request, 'size'),
    filters: toProto(filtersOf(request)),
  };
}

function stopOptions(request: IncomingMessage): { signal: string; timeoutSeconds?: number } {
  const timeoutSeconds = integer(request, 't');
  return {
    signal: olderThan(request, '1.42') ? '' : text(request, 'signal'),
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds: Math.max(-1, Math.min(timeoutSeconds, 2 ** 31 - 1)) }),
  };
}

function waitCondition(value: string): Condition {
  switch (value) {
    case '':
    case 'not-running':
      return WaitCondition.NOT_RUNNING;
    case 'next-exit':
      return WaitCondition.NEXT_EXIT;
    case 'removed':
      return WaitCondition.REMOVED;
    default:
      throw new InvalidParameter(`invalid condition: ${JSON.stringify(value)}`);
  }
}
