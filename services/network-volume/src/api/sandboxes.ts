/** flotilla.network.v1.Sandboxes */
import type { SandboxesService } from '@flotilla/contracts/flotilla/network/v1/networks';
import type { Handlers } from '@flotilla/service-kit';
import type { Sandboxes } from '../sandboxes.ts';
import { toJsonBytes } from './convert.ts';

export function sandboxesApi(sandboxes: Sandboxes): Handlers<typeof SandboxesService> {
  return {
    check: async (request) => sandboxes.check(request),
    async prepare(request) {
      const { netnsPath, files, settings } = await sandboxes.prepare(request);
      return {
        netnsPath,
        hostnamePath: files.hostname,
        hostsPath: files.hosts,
        resolvConfPath: files.resolvConf,
        networkSettingsJson: toJsonBytes(settings),
      };
    },
    release: async (request) => ({ networkSettingsJson: toJsonBytes(await sandboxes.release(request)) }),
    async connect(request) {
      const { settings, networkName } = await sandboxes.connect(request);
      return { networkSettingsJson: toJsonBytes(settings), networkName };
    },
    async disconnect(request) {
      const { settings, networkName } = await sandboxes.disconnect(request);
      return { networkSettingsJson: toJsonBytes(settings), networkName };
    },
    async rename({ containerId, newName }) {
      await sandboxes.rename(containerId, newName);
      return {};
    },
    retain: async (request) => ({ released: await sandboxes.retain(request) }),
  };
}
