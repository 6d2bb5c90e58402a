/** Where the Distribution API is: the registry-proxy that discovery knows, or the one the settings name. */
import { Unavailable } from '@flotilla/errors';
import type { Discovery } from '@flotilla/service-kit';
import { proxyGone, RegistryError, type WithRegistry } from '../registry/distribution.ts';

const waitMs = 15_000;
const pollMs = 100;

export function withRegistry(discovery: Discovery, configured: string): WithRegistry {
  let turn = 0;
  const addresses = (): string[] => {
    if (configured !== '') return [configured];
    return discovery.instances('registry-proxy').flatMap((beat) => (beat.httpAddress === '' ? [] : [beat.httpAddress]));
  };
  return async (work, signal) => {
    const end = Date.now() + waitMs;
    for (;;) {
      signal.throwIfAborted();
      const live = addresses();
      const address = live[turn++ % Math.max(1, live.length)];
      try {
        if (address !== undefined) return await work(address);
      } catch (error) {
        // A killed instance is in discovery for three more seconds.
        if (!(error instanceof RegistryError) || error.code !== proxyGone) throw error;
      }
      if (Date.now() > end) throw new Unavailable('registry-proxy is not available');
      await new Promise((resolve) => setTimeout(resolve, pollMs));
    }
  };
}
