/** What the builder asks of network-volume. */
import { NetworksService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { type Discovery, serviceCalls } from '@flotilla/service-kit';

const patienceMs = 2_000;
/** One build asks six times. */
const rememberedMs = 10_000;

/** What `host-gateway` stands for: the operator's address, else the host's own on the default bridge; empty when there is none. */
export function hostGateway(given: readonly string[], discovery: Discovery): () => Promise<string> {
  const [address] = given;
  if (address !== undefined) return async () => address;
  const networks = serviceCalls(NetworksService, 'network-volume', discovery);
  const ask = async (): Promise<string> => {
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
  let answer: Promise<string> | undefined;
  return () => {
    if (answer === undefined) {
      const asked = ask();
      const forget = (): void => {
        if (answer === asked) answer = undefined;
      };
      answer = asked;
      setTimeout(forget, rememberedMs).unref();
      void asked.then((address) => address === '' && forget());
    }
    return answer;
  };
}
