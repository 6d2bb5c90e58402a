/** Joins this host to those that share its NATS, for overlay networks; a NATS on the host itself is shared with nobody. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, ServiceSettings } from '@flotilla/service-kit';
import { claimOf } from '../endpointChooser.ts';
import type { NetworkRecord } from '../network.ts';
import type { Tunnels } from '../networkKernel.ts';
import { sharedNetworkOf } from '../overlay/network.ts';
import { Overlay, type OverlayOptions } from '../overlay/overlay.ts';
import type { Records } from '../records.ts';
import { addressesOf } from '../sandbox.ts';
import { OverlayLinks } from './overlayLinks.ts';
import { SharedBucket, underlayAddress } from './sharedBucket.ts';

const retryMs = 2_000;

export interface SharedHosts {
  readonly overlay: Overlay;
  readonly tunnels: Tunnels;
  /** Learns what the others have, and follows it; tries again until NATS answers. */
  begin(): void;
}

export async function shareWithHosts(options: {
  readonly kit: { readonly bus: Bus; readonly settings: Pick<ServiceSettings, 'FLOTILLA_NATS_URL' | 'FLOTILLA_ENGINE_ID'> };
  readonly records: Records;
  readonly follow: OverlayOptions['onNetworks'];
  readonly onError: (error: unknown) => void;
}): Promise<SharedHosts | undefined> {
  const { kit, records, follow, onError } = options;
  const address = await underlayAddress(kit.settings.FLOTILLA_NATS_URL);
  if (address === undefined) return undefined;
  const engineId = kit.settings.FLOTILLA_ENGINE_ID;
  const links = new OverlayLinks({ engineId, address });
  const overlay = new Overlay({
    store: new SharedBucket(kit.bus, onError),
    engineId,
    address,
    links,
    ownEndpoints: () => ownEndpoints(records),
    ownNetworks: () => [...records.networks.values()].flatMap(sharedNetworkOf),
    recordsAreLost: () => records.areLost === true,
    network: (id) => records.networks.get(id),
    onNetworks: follow,
    onError,
  });
  const begin = async (): Promise<void> => {
    for (;;) {
      try {
        return await overlay.start();
      } catch (error) {
        onError(error);
        await sleep(retryMs, undefined, { ref: false });
      }
    }
  };
  const tunnels = {
    realize: (network: NetworkRecord, mtu: number) => overlay.realize(network, mtu),
    remove: (bridge: string) => links.removeTunnel(bridge),
  };
  return { overlay, tunnels, begin: () => void begin() };
}

function ownEndpoints(records: Records): ReturnType<OverlayOptions['ownEndpoints']> {
  return [...records.sandboxes.values()].flatMap((sandbox) =>
    sandbox.endpoints.flatMap((endpoint) => {
      const { networkId } = endpoint;
      if (records.networks.get(networkId)?.driver !== 'overlay') return [];
      return addressesOf(endpoint).map((address) => ({ networkId, address, claim: claimOf(sandbox, endpoint) }));
    }),
  );
}
