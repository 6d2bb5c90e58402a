/** Several test hosts on one wire, with an "outside" that is also their default gateway: clients, upstream registries, other engines live there. */
import { createTestHost, type TestHost } from './testHost.ts';

/** 198.18.0.0/15 is set aside for benchmarks of network devices: no real network has it. */
const subnet = '198.18.0';

export interface LabHost {
  readonly host: TestHost;
  /** The host's own address on the wire. */
  readonly address: string;
}

export interface Lab {
  readonly outside: TestHost;
  /** The outside's address, as hosts see it. */
  readonly outsideAddress: string;
  readonly hosts: readonly LabHost[];
  dispose(): Promise<void>;
}

export async function createLab(options: { hosts: number }): Promise<Lab> {
  const outside = await createTestHost({ name: 'outside' });
  const hosts: LabHost[] = [];
  const dispose = async (): Promise<void> => {
    for (const { host } of hosts) await host.dispose();
    await outside.dispose();
  };
  try {
    await outside.sh(`ip link add wire type bridge; ip addr add ${subnet}.1/24 dev wire; ip link set wire up`);
    for (let index = 0; index < options.hosts; index += 1) {
      const host = await createTestHost();
      hosts.push({ host, address: `${subnet}.${10 + index}` });
      await plugIn(outside, host, `${subnet}.${10 + index}`);
    }
  } catch (error) {
    await dispose();
    throw error;
  }
  return { outside, outsideAddress: `${subnet}.1`, hosts, dispose };
}

/** Gives one host an outside; both go when the host is disposed. */
export async function connectOutside(host: TestHost): Promise<{ outside: TestHost; outsideAddress: string; address: string }> {
  const outside = await createTestHost({ name: 'outside' });
  host.onDispose(() => outside.dispose());
  await outside.sh(`ip link add wire type bridge; ip addr add ${subnet}.1/24 dev wire; ip link set wire up`);
  await plugIn(outside, host, `${subnet}.10`);
  return { outside, outsideAddress: `${subnet}.1`, address: `${subnet}.10` };
}

async function plugIn(outside: TestHost, host: TestHost, address: string): Promise<void> {
  const port = `port${address.split('.').at(-1)}`;
  await outside.sh(`ip link add ${port} type veth peer name eth0 netns ${host.namespaces.pid}; ip link set ${port} master wire up`);
  await host.sh(`ip addr add ${address}/24 dev eth0; ip link set eth0 up; ip route add default via ${subnet}.1`);
}
