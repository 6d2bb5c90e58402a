/** What the builder asks of network-volume. */
import { NetworksService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { type Discovery, serviceCalls } from '@flotilla/service-kit';

const patienceMs = 2_000;

/** The host's own address on the default bridge, which `host-gateway` stands for; empty when there is none. */
export function bridgeAddress(discovery: Discovery): () => Promise<string> {
  const networks = serviceCalls(NetworksService, 'network-volume', discovery);
  return async () => {
    try {
      const { networkJson } = await networks.inspect(
        { network: 'bridge', verbose: false, scope: '' },
        { deadlineMs: patienceMs, idempotent: true },
      );
      const { IPAM } = JSON.parse(Buffer.from(networkJson).toString('utf8')) as { IPAM?: { Config?: { Gateway?: string }[] } };
      return IPAM?.Config?.[0]?.Gateway ?? '';
    } catch {
      return '';
    }
  };
}
