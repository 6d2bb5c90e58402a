/** Networks in the records: saving one under its name, and what their events say. */
import { Conflict, isConflict } from '@flotilla/errors';
import { type NetworkRecord, predefinedNames } from './network.ts';
import { event, type Records } from './records.ts';

/** @throws Conflict in dockerd's words when the name is taken. */
export async function saveNetwork(records: Records, network: NetworkRecord): Promise<void> {
  const { networks, networkNames } = records;
  try {
    await records.commit({
      puts: [
        networks.put(network.id, network, { create: true }),
        networkNames.put(network.name, { networkId: network.id }, { create: true }),
      ],
      events: predefinedNames.includes(network.name) ? [] : [event('network', 'create', network.id, eventAttributes(network))],
    });
  } catch (error) {
    if (isConflict(error)) throw new Conflict(`network with name ${network.name} already exists`, { cause: error });
    throw error;
  }
}

/** What dockerd puts into every event of a network. */
export function eventAttributes(network: NetworkRecord): Record<string, string> {
  return { name: network.name, type: network.driver };
}
