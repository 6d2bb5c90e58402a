/** The part of a container's configuration that is the same on every host. */
import { posix } from 'node:path';
import type { ContainerConfig, HealthConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { parseSignal } from './signals.ts';
import { checkExposedPort } from './validatePorts.ts';

const nanosecondsPerMillisecond = 1_000_000;
const longestHostname = 63;

/**
 * Also brings the working directory into its clean form.
 *
 * @throws InvalidParameter in dockerd's words.
 */
export function checkContainerConfig(config: ContainerConfig): void {
  if (config.WorkingDir) {
    if (!config.WorkingDir.startsWith('/')) {
      throw new InvalidParameter(`the working directory '${config.WorkingDir}' is invalid, it needs to be an absolute path`);
    }
    const clean = posix.normalize(config.WorkingDir);
    config.WorkingDir = clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
  }
  if (config.StopSignal) parseSignal(config.StopSignal);
  for (const variable of config.Env ?? []) checkVariable(variable);
  checkText('Hostname', config.Hostname);
  checkText('Domainname', config.Domainname);
  for (const argument of [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])]) checkText('command', argument);
  for (const port of Object.keys(config.ExposedPorts ?? {})) checkExposedPort(port);
  if (config.Hostname !== undefined && config.Hostname.length > longestHostname) {
    throw new InvalidParameter(`invalid hostname: ${JSON.stringify(config.Hostname)} is longer than ${longestHostname} characters`);
  }
  checkHealthcheck(config.Healthcheck);
}

/** @throws InvalidParameter for a variable without a name. */
export function checkVariable(variable: string): void {
  if (variable === '' || variable.startsWith('=')) throw new InvalidParameter(`invalid environment variable: ${variable}`);
  checkText('environment variable', variable);
}

/** The kernel would end it at a NUL, and a line of a file at a newline. */
function checkText(what: string, text: string | undefined): void {
  if (text?.includes('\0')) throw new InvalidParameter(`invalid ${what}: it contains a NUL character`);
}

function checkHealthcheck(healthcheck: HealthConfig | undefined): void {
  if (healthcheck === undefined) return;
  const long = (name: 'Interval' | 'Timeout' | 'StartPeriod' | 'StartInterval'): void => {
    const value = healthcheck[name] ?? 0;
    if (value !== 0 && value < nanosecondsPerMillisecond) throw new InvalidParameter(`${name} in Healthcheck cannot be less than 1ms`);
  };
  long('Interval');
  long('Timeout');
  if ((healthcheck.Retries ?? 0) < 0) throw new InvalidParameter('Retries in Healthcheck cannot be negative');
  long('StartPeriod');
  long('StartInterval');
}
