/** Where the Distribution API is: the registry-proxy that discovery knows, or the one the settings name. */
import { Unavailable } from '@flotilla/errors';
import type { Discovery } from '@flotilla/service-kit';
import type { RegistryAddress } from '../pull.ts';

const waitMs = 10_000;
const pollMs = 50;

export function registryAddress(discovery: Discovery, configured: string): RegistryAddress {
  if (configured !== '') return async () => configured;
  let turn = 0;
  return async (signal) => {
    for (const end = Date.now() + waitMs; Date.now() < end; ) {
      signal.throwIfAborted();
      const live = discovery.instances('registry-proxy').filter((beat) => beat.httpAddress !== '');
      const chosen = live[turn++ % Math.max(1, live.length)];
      if (chosen !== undefined) return chosen.httpAddress;
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
    throw new Unavailable('registry-proxy is not available');
  };
}
