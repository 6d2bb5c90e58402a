/** `RUN --mount=type=secret` and `type=ssh`: what the client lends a step. Secrets are in memory only, and never part of what the cache knows a step by. */
import { chmodSync, chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NotFound } from '@flotilla/errors';
import { targetOf } from './mountOptions.ts';
import type { MountParts, MountRequest } from './runMounts.ts';
import type { SecretVariable } from './secretVariables.ts';

export interface LentMount {
  /** Undefined when nothing is to be mounted. */
  readonly source: string | undefined;
  readonly target: string;
  readonly environment: readonly string[];
  readonly variable?: SecretVariable;
}

/**
 * @param agents - how many agents the step has already. @returns undefined when the client has nothing to lend, and nobody insists.
 * @throws NotFound when somebody does.
 */
export function mountFromClient(request: MountRequest, parts: MountParts, agents: number): Promise<LentMount | undefined> {
  return request.type === 'ssh' ? agentMount(request, parts, agents) : secretMount(request, parts);
}

async function secretMount(request: MountRequest, parts: MountParts): Promise<LentMount | undefined> {
  const { id, variable, required, uid, gid, mode } = request;
  const secret = await parts.client?.secret(id);
  if (secret === undefined) {
    if (required) throw new NotFound(`secret ${id}: not found`);
    return undefined;
  }
  const own = variable === '' ? {} : { variable: { name: variable, value: secret } };
  if (variable !== '' && request.target === '') return { source: undefined, target: '', environment: [], ...own };
  const source = join(parts.roots.memory('secret'), 'secret');
  writeFileSync(source, secret, { mode: 0o600 });
  chownSync(source, uid, gid);
  chmodSync(source, mode ?? 0o400);
  const target = targetOf({ ...request, target: request.target || `/run/secrets/${id}` }, parts.workingDirectory);
  return { source, target, environment: [], ...own };
}

async function agentMount(request: MountRequest, parts: MountParts, agents: number): Promise<LentMount | undefined> {
  const { required, uid, gid, mode } = request;
  const id = request.id || 'default';
  let source: string | undefined;
  try {
    source = await parts.client?.agent(id);
  } catch (error) {
    if (required) throw error;
  }
  if (source === undefined) {
    if (required) throw new NotFound(`unset ssh forward key ${id}: no SSH key ${JSON.stringify(id)} forwarded from the client`);
    return undefined;
  }
  chownSync(source, uid, gid);
  chmodSync(source, mode ?? 0o600);
  const target = targetOf({ ...request, target: request.target || `/run/buildkit/ssh_agent.${agents}` }, parts.workingDirectory);
  return { source, target, environment: [`SSH_AUTH_SOCK=${target}`] };
}
