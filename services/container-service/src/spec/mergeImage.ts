/** A container's configuration over that of its image. */
import { buildLabel, type ContainerConfig, type HealthConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { ContainerDefaults } from '@flotilla/oci';

/**
 * @param image - what the image says; absent: nothing.
 * @throws InvalidParameter when nothing is left to run.
 */
export function mergeImage(config: ContainerConfig, image: ContainerDefaults | undefined): ContainerConfig {
  // No image makes a step of a build of what runs from it.
  const { [buildLabel]: _reserved, ...imageLabels } = image?.Labels ?? {};
  const merged: ContainerConfig = { ...config, Labels: { ...imageLabels, ...config.Labels } };
  if (image !== undefined) {
    if (!config.User && image.User) merged.User = image.User;
    if (!config.WorkingDir && image.WorkingDir) merged.WorkingDir = image.WorkingDir;
    if (!config.StopSignal && image.StopSignal) merged.StopSignal = image.StopSignal;
    if (!config.Shell?.length && image.Shell?.length) merged.Shell = [...image.Shell];
    if (image.ExposedPorts) merged.ExposedPorts = { ...emptyValues(image.ExposedPorts), ...config.ExposedPorts };
    if (image.Volumes) merged.Volumes = { ...emptyValues(image.Volumes), ...config.Volumes };
    // Empty is as if it was not given: inspect shows null.
    if (!image.ExposedPorts && isEmpty(config.ExposedPorts)) delete merged.ExposedPorts;
    if (!image.Volumes && isEmpty(config.Volumes)) delete merged.Volumes;
    const env = mergeEnv(config.Env ?? [], image.Env ?? []);
    if (env.length > 0) merged.Env = env;
    if (!config.Entrypoint?.length) {
      // With an entrypoint of one's own the image's command is not its argument any more.
      if (!config.Cmd?.length && image.Cmd) merged.Cmd = [...image.Cmd];
      // `[]` asks for none; absent takes the image's.
      if (config.Entrypoint === undefined && image.Entrypoint) merged.Entrypoint = [...image.Entrypoint];
    }
    const healthcheck = mergeHealthcheck(config.Healthcheck, image.Healthcheck);
    if (healthcheck !== undefined) merged.Healthcheck = healthcheck;
  }
  // `--entrypoint ""`.
  if (merged.Entrypoint?.length === 1 && merged.Entrypoint[0] === '') delete merged.Entrypoint;
  if (!merged.Entrypoint?.length && !merged.Cmd?.length) throw new InvalidParameter('no command specified');
  return merged;
}

/** The user's variables first, then those of the image it does not name. */
function mergeEnv(user: readonly string[], image: readonly string[]): string[] {
  const named = new Set(user.map(nameOf));
  return [...user, ...image.filter((variable) => !named.has(nameOf(variable)))];
}

function nameOf(variable: string): string {
  const equals = variable.indexOf('=');
  return equals < 0 ? variable : variable.slice(0, equals);
}

function mergeHealthcheck(user: HealthConfig | undefined, image: ContainerDefaults['Healthcheck']): HealthConfig | undefined {
  if (image === undefined) return user;
  const inherited: HealthConfig = { ...image, ...(image.Test === undefined ? {} : { Test: [...image.Test] }) } as HealthConfig;
  if (user === undefined) return inherited;
  const merged: HealthConfig = { ...user };
  if (!user.Test?.length && inherited.Test) merged.Test = inherited.Test;
  for (const name of ['Interval', 'Timeout', 'StartPeriod', 'StartInterval', 'Retries'] as const) {
    if (!user[name] && inherited[name]) merged[name] = inherited[name];
  }
  return merged;
}

function isEmpty(record: object | undefined): boolean {
  return Object.keys(record ?? {}).length === 0;
}

function emptyValues(record: Readonly<Record<string, unknown>>): Record<string, Record<string, never>> {
  return Object.fromEntries(Object.keys(record).map((key) => [key, {}]));
}
