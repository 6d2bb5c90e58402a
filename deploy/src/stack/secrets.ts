/** The passwords of a stack's own Redis and NATS users: made once, kept in the data root, readable by root alone. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { type ServiceName, serviceNames } from './services.ts';

export interface Secret {
  readonly redis: string;
  readonly nats: string;
}

export type SecretHolder = ServiceName | 'supervisor';
export type Secrets = Readonly<Record<SecretHolder, Secret>>;

/** Reads the secrets below `directory`, making those that are missing or broken. */
export function openSecrets(directory: string): Secrets {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const holders: SecretHolder[] = [...serviceNames, 'supervisor'];
  return Object.fromEntries(holders.map((holder) => [holder, openSecret(`${directory}/${holder}.json`)])) as Secrets;
}

function openSecret(path: string): Secret {
  try {
    const found = JSON.parse(readFileSync(path, 'utf8')) as Partial<Secret>;
    if (typeof found.redis === 'string' && typeof found.nats === 'string') return { redis: found.redis, nats: found.nats };
  } catch {
    // Missing, or cut short by a power loss: a new one does no harm, for Redis and NATS learn it when they start.
  }
  const secret = { redis: randomBytes(24).toString('hex'), nats: randomBytes(24).toString('hex') };
  writeFileSync(`${path}.new`, `${JSON.stringify(secret)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
  return secret;
}
