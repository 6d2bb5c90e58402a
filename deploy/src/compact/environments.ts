/** How one process is told the environments of five: as one JSON variable, taken out of its own environment, so that no child inherits the passwords in it. */
import type { ServiceName } from '../stack/services.ts';

type Environment = Readonly<Record<string, string>>;
export type Environments = Readonly<Record<ServiceName, Environment>>;

const variable = 'FLOTILLA_SERVICES';

/** @param shared - what every service and its children need, such as PATH. */
export function giveEnvironments(shared: Environment, environments: Environments): Record<string, string> {
  return { ...shared, [variable]: JSON.stringify(environments) };
}

/** @throws Error when the process was not started by a compact stack. */
export function takeEnvironments(env: NodeJS.ProcessEnv): Environments {
  const text = env[variable];
  if (text === undefined) throw new Error('this is started by: flotilla up --compact');
  delete env[variable];
  return JSON.parse(text) as Environments;
}
