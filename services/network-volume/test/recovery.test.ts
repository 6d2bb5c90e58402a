/** What becomes of sandboxes when network-volume is killed or the host starts anew. */
import { connectOutside, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NetworkVolumeStack, sandboxSpec } from './stack.ts';
import { fetchFrom } from './traffic.ts';

let stack: NetworkVolumeStack;
let outside: Awaited<ReturnType<typeof connectOutside>>;

beforeAll(async () => {
  stack = await NetworkVolumeStack.start();
  outside = await connectOutside(stack.host);
});
afterAll(() => stack.dispose());

describe('after a reboot', () => {
  it('sandboxes are gone with their addresses, and networks are as they were', async () => {
    const id = await stack.createNetwork({ Name: 'lasting', EnableIPv6: true, IPAM: { Config: [{ Subnet: '10.61.0.0/24' }] } });
    const bridge = `br-${id.slice(0, 12)}`;
    const gone = await stack.prepare({ networkMode: 'lasting', ports: { '80/tcp': [{ HostPort: '8091' }] } });
    const before = await stack.inspectNetwork('lasting');
    await stack.stopService('SIGKILL');
    await stack.host.sh(`
      umount ${stack.host.execRoot}/netns/*; rm -rf ${stack.host.execRoot}/netns ${stack.host.execRoot}/network-volume
      for link in $(ip -o link show type bridge | cut -d : -f 2); do ip link delete "$link"; done
      nft flush ruleset`);
    await stack.startService();
    expect(await stack.inspectNetwork('lasting')).toEqual({ ...before, Containers: {} });
    expect(await stack.host.sh(`ip -o addr show dev ${bridge}`)).toContain('10.61.0.1/24');
    const redis = stack.redis.client();
    const fields = await redis.hkeys(`flotilla:{${stack.engineId}:network-volume}:records`);
    redis.disconnect();
    expect(fields.filter((field) => /^(sandbox|address)\//.test(field))).toEqual([]);
    expect(await stack.host.sh('nft list map inet flotilla published4_any')).not.toContain('elements');
    const heir = await stack.prepare({ networkMode: 'lasting', ports: { '80/tcp': [{ HostPort: '8091' }] } });
    expect(heir.settings.Networks.lasting).toMatchObject({ IPAddress: gone.settings.Networks.lasting?.IPAddress });
    const server = await stack.serve(heir, 80, 'after');
    expect(await fetchFrom(stack.host, '127.0.0.1', 8091)).toBe('after');
    server.kill('SIGKILL');
    await stack.release(heir);
    await stack.networks.remove({ network: 'lasting' });
  });
});

describe('after kill -9', () => {
  it('goes on as it was, with sandboxes, ports and names, and removes what nobody owns', async () => {
    await stack.createNetwork({ Name: 'lasting' });
    const web = await stack.prepare({ containerName: 'web', networkMode: 'lasting', ports: { '80/tcp': [{ HostPort: '8090' }] } });
    const client = await stack.prepare({ containerName: 'client', networkMode: 'lasting' });
    const gone = await stack.prepare({ containerName: 'gone' });
    await stack.serve(web, 80, 'lasting');
    await stack.stopService('SIGKILL');
    expect(await fetchFrom(stack.host, '127.0.0.1', 8090)).toBe('lasting');
    await stack.host.sh('ip link add ve000000000000 type veth peer name stray');
    await stack.host.sh(`ip link set ve000000000000 alias flotilla:${stack.engineId}`);
    const began = Date.now();
    await stack.startService();
    expect(Date.now() - began).toBeLessThan(10_000);
    expect(await fetchFrom(stack.host, '127.0.0.1', 8090)).toBe('lasting');
    expect(await fetchFrom(stack.host, '::1', 8090)).toBe('lasting');
    expect((await stack.inside(client, 'dig +short +time=2 +tries=1 @127.0.0.11 web A')).trim()).toBe(
      web.settings.Networks.lasting?.IPAddress,
    );
    await expect(stack.prepare({ ports: { '80/tcp': [{ HostPort: '8090' }] } })).rejects.toThrow('port is already allocated');
    const { released } = await stack.sandboxes.retain({ known: [web.id, client.id], running: [web.id, client.id] });
    expect(released).toEqual([gone.id]);
    await stack.release(web, client);
    await stack.networks.remove({ network: 'lasting' });
    await waitFor(async () => !(await stack.host.sh('ip -o link')).includes('ve000000000000'), { what: 'the stray link to go' });
  });

  it('leaves an interface on a parent’s wire as it is, beside a bridge with published ports', async () => {
    await stack.createNetwork({
      Name: 'wire',
      Driver: 'macvlan',
      IPAM: { Config: [{ Subnet: '10.62.0.0/24' }, { Subnet: '10.63.0.0/24' }] },
    });
    const ports = { '80/tcp': [{ HostPort: '8092' }] };
    const spec = sandboxSpec({ networkMode: 'bridge', endpoints: { bridge: {}, wire: { MacAddress: '02:42:00:00:00:77' } }, ports });
    const [web, other] = [await stack.prepare(spec as never), await stack.prepare({ networkMode: 'wire' })];
    await stack.serve(web, 80, 'both');
    const link = (): Promise<string> => stack.inside(web, 'ip -o addr show dev eth1; ip -o link show dev eth1; ip route');
    const before = await link();
    expect(before).toContain('10.62.0.1/24');
    expect(before).toContain('link/ether 02:42:00:00:00:77');
    await stack.stopService('SIGKILL');
    await stack.startService();
    expect(await link()).toBe(before);
    expect(await stack.inside(other, 'ping -c1 -W2 10.62.0.1')).toContain('1 received');
    for (const address of ['127.0.0.1', '::1', outside.address]) expect(await fetchFrom(stack.host, address, 8092)).toBe('both');
    // The same container has the same addresses after its own restart.
    await stack.sandboxes.release({ containerId: web.id, remove: false });
    const again = await stack.prepare(spec as never);
    expect(again.settings.Networks.wire).toMatchObject({ IPAddress: '10.62.0.1', MacAddress: '02:42:00:00:00:77' });
    expect(again.settings.Networks.bridge?.MacAddress).toBe(web.settings.Networks.bridge?.MacAddress);
    await stack.release(again, other);
    await stack.networks.remove({ network: 'wire' });
  });

  it('leaves nothing when it stops with no sandbox', async () => {
    await stack.stopService('SIGTERM');
    await waitFor(async () => !/ ve[0-9a-f]{12}/.test(await stack.host.sh('ip -o link')), { what: 'all pooled interfaces to go' });
    expect(await stack.host.sh(`ls ${stack.host.execRoot}/netns`)).toBe('');
    expect(await stack.host.sh(`ls ${stack.host.execRoot}/network-volume/sandboxes`)).toBe('');
    await stack.startService();
    expect(await stack.host.sh('nft -j list table inet flotilla')).not.toContain('"elem":[{');
  });
});
