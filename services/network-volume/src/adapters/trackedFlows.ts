/** The kernel's table of flows (conntrack), in the background: it takes the kernel some ten milliseconds to walk it. */
import { deleteFlow, type Flow, type FlowFilter, hasCode, listFlows, NetlinkSocket, netlinkProtocols } from '@flotilla/syscalls';
import type { PortForward } from '../firewall.ts';
import type { Flows } from '../sandboxOutside.ts';

const udp = 17;

export class TrackedFlows implements Flows {
  private readonly onError: (error: unknown) => void;

  /** Works in the network namespace of the calling thread. */
  constructor(onError: (error: unknown) => void) {
    this.onError = onError;
  }

  async forgetThoseOf(forwards: readonly PortForward[]): Promise<void> {
    const addresses = new Map(forwards.map(({ family, containerAddress }) => [containerAddress, family]));
    for (const [answeredBy, family] of addresses) await this.forget({ family, answeredBy }, () => true);
  }

  async forgetMisled(forwards: readonly PortForward[]): Promise<void> {
    for (const family of [4, 6] as const) {
      const published = new Map(
        forwards
          .filter((forward) => forward.protocol === 'udp' && forward.family === family)
          .flatMap(({ hostPort, containerAddress }) => (hostPort === undefined ? [] : [[hostPort, containerAddress] as const])),
      );
      const isMisled = ({ destinationPort, answeredBy }: Flow): boolean =>
        published.has(destinationPort) && published.get(destinationPort) !== answeredBy;
      if (published.size > 0) await this.forget({ family, protocol: udp }, isMisled);
    }
  }

  private async forget(filter: FlowFilter, isUnwanted: (flow: Flow) => boolean): Promise<void> {
    try {
      using socket = NetlinkSocket.open(netlinkProtocols.netfilter);
      for (const flow of await listFlows(socket, filter)) if (isUnwanted(flow)) deleteFlow(socket, flow);
    } catch (error) {
      // A kernel without ctnetlink has no way to forget flows: they end by their own time.
      if (!hasCode(error, 'EINVAL', 'EOPNOTSUPP', 'EPROTONOSUPPORT')) this.onError(error);
    }
  }
}
