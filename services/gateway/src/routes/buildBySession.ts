/** A build of a client that has BuildKit's session and none of its steering (the CLI of before 23, `version=2`): its parameters as the frontend's options. */

import { randomBytes } from 'node:crypto';
import type { BuildBySessionRequest } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import type { BuildRequest } from '@flotilla/contracts/flotilla/image/v1/builds';
import type { HostConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';

/** What such a client gives as the place of its context when that is its session. */
const contextInSession = 'client-session';

/** @param outputs - the parameter of that name: JSON. @throws InvalidParameter */
export function buildBySession(request: BuildRequest, session: string, outputs: string): BuildBySessionRequest {
  const buildArgs = JSON.parse(Buffer.from(request.buildArgsJson).toString('utf8')) as Record<string, string | null>;
  const host = JSON.parse(Buffer.from(request.hostConfigJson).toString('utf8')) as HostConfig;
  const given = {
    filename: request.dockerfile,
    target: request.target,
    platform: request.platform,
    context: request.remote === contextInSession ? '' : request.remote,
    'image-resolve-mode': request.pull ? 'pull' : 'local',
    'cache-from': request.cacheFrom.join(','),
    'force-network-mode': host.NetworkMode === 'default' ? '' : (host.NetworkMode ?? ''),
    'add-hosts': (host.ExtraHosts ?? []).map((each) => each.replace(':', '=')).join(','),
    'shm-size': host.ShmSize === undefined ? '' : String(host.ShmSize),
    'cgroup-parent': host.CgroupParent ?? '',
    ulimit: (host.Ulimits ?? []).map(({ Name, Soft, Hard }) => `${Name}=${Soft}:${Hard}`).join(','),
  };
  const named = (prefix: string, values: Readonly<Record<string, string | null>>): [string, string][] =>
    Object.entries(values).flatMap(([key, value]) => (value === null ? [] : [[`${prefix}:${key}`, value]]));
  return {
    // Nobody can follow or cancel a build without a name, but builds are told apart by it.
    ref: request.buildId || randomBytes(12).toString('hex'),
    session,
    options: Object.fromEntries([
      ...Object.entries(given).filter(([, value]) => value !== ''),
      ...(request.noCache ? [['no-cache', ''] as const] : []),
      ...named('build-arg', buildArgs),
      ...named('label', request.labels),
    ]),
    exporters: exportersOf(outputs, request.tags),
    // dockerode opens a session for secrets and credentials alone.
    contextInBody: request.remote === '',
  };
}

function exportersOf(outputs: string, tags: readonly string[]): BuildBySessionRequest['exporters'] {
  const image = { type: 'moby', attributes: { name: tags.join(',') } };
  if (outputs === '') return [image];
  let list: unknown;
  try {
    list = JSON.parse(outputs);
  } catch (cause) {
    throw new InvalidParameter('error reading outputs: invalid JSON', { cause });
  }
  if (list === null || (Array.isArray(list) && list.length === 0)) return [image];
  if (!Array.isArray(list) || list.length > 1) throw new InvalidParameter('multiple outputs not supported');
  const [{ Type: type = '', Attrs: attributes = {} }] = list as [{ Type?: string; Attrs?: Record<string, string> }];
  if (type === 'cacheonly') return [];
  return [
    type === 'moby' || type === 'image' ? { type: 'moby', attributes: { ...attributes, ...image.attributes } } : { type, attributes },
  ];
}
