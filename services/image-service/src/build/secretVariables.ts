/**
 * Secrets that a step gets as variables. A container's own environment is recorded, and a secret must not be: the step runs below a small shell that reads
 * them from memory first.
 */
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Mount } from '@flotilla/engine-api';
import { InvalidParameter, System } from '@flotilla/errors';
import type { RootFilesystems } from './rootFilesystems.ts';

export interface SecretVariable {
  readonly name: string;
  readonly value: Buffer;
}

/** Static, so that it runs in any image. */
const shell = '/bin/busybox';
/** In the container's /dev, which is no part of any layer. */
const place = '/dev/pipes';

export interface VariableSetup {
  readonly mounts: readonly Mount[];
  /** The command with what goes before it. */
  readonly wrap: (command: readonly string[]) => readonly string[];
}

export function setVariables(variables: readonly SecretVariable[], roots: RootFilesystems): VariableSetup {
  if (variables.length === 0) return { mounts: [], wrap: (command) => command };
  if (!existsSync(shell)) throw new System(`secrets as variables need ${shell} on the host`);
  const script = join(roots.memory('variables'), 'script');
  writeFileSync(script, Buffer.from(`${variables.map(assignment).join('')}exec "$@"\n`, 'latin1'), { mode: 0o600 });
  chmodSync(script, 0o444);
  return {
    mounts: [
      { Type: 'bind', Source: shell, Target: `${place}/busybox`, ReadOnly: true },
      { Type: 'bind', Source: script, Target: `${place}/variables`, ReadOnly: true },
    ],
    wrap: (command) => [`${place}/busybox`, 'sh', `${place}/variables`, ...command],
  };
}

function assignment({ name, value }: SecretVariable): string {
  if (!/^[A-Za-z_]\w*$/.test(name)) throw new InvalidParameter(`invalid environment variable name ${JSON.stringify(name)} for a secret`);
  if (value.includes(0)) throw new InvalidParameter(`the secret for ${name} holds a zero byte, which no variable can`);
  return `export ${name}='${value.toString('latin1').replaceAll("'", `'\\''`)}'\n`;
}
