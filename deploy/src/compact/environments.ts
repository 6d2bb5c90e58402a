/** How one process is told the environments of five: as one JSON variable of its plan. */
import type { ServiceName } from '../stack/services.ts';

type Environment = Readonly<Record<string, string>>;
export type Environments = Readonly<Record<ServiceName, Environment>>;

const variable = 'FLOTILLA_SERVICES';

/** @param shared - what every service and its children need, such as PATH. */
export function giveEnvironments(shared: Environment, services: Environments): Record<string, string> {
  return { ...shared, [variable]: JSON.stringify(services) };
}

/** The passwords are in `services` alone. */
export function takeEnvironments(env: Environment): { shared: Environment; services: Environments } {
  const { [variable]: services = '{}', ...shared } = env;
  return { shared, services: JSON.parse(services) as Environments };
}
