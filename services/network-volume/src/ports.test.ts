import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  PortAllocator,
  type PortHolder,
  type PortRefusal,
  type PublishedPort,
  parseHostPort,
  parsePort,
  portMapOf,
  portWishes,
} from './ports.ts';

class FakeHolder implements PortHolder {
  readonly held = new Set<string>();
  readonly refusals = new Map<string, PortRefusal>();
  most = 10;

  hold(port: PublishedPort): PortRefusal | undefined {
    const key = `${port.hostIp} ${port.protocol} ${port.hostPort}`;
    const refusal = this.refusals.get(key) ?? (this.held.has(key) ? 'ours' : undefined);
    if (refusal === undefined) this.held.add(key);
    return refusal;
  }

  room(): number {
    return this.most - this.held.size;
  }

  release(port: PublishedPort): void {
    this.held.delete(`${port.hostIp} ${port.protocol} ${port.hostPort}`);
  }
}

const both = { hostIp: '0.0.0.0', ipv6: true };
const nobodys = (): boolean => false;
const endpoint = { name: 'web', id: 'e1' };

describe('what bindings mean', () => {
  it.each(['', '0', '65536', '80/icmp', '80/tcp/udp', '-1', 'x', '8 0'])('refuses the port %j', (text) => {
    expect(() => parsePort(text)).toThrow();
  });

  it.each(['x', '1-2-3', '9-8', '70000', '80-', '-80'])('refuses the host port %j', (text) => {
    expect(() => parseHostPort(text)).toThrow('invalid port specification');
  });

  it('publishes on both families when no address is given, and on one when it is', () => {
    const bindings = { '80/tcp': [{ HostPort: '8080' }, { HostIp: '127.0.0.1', HostPort: '81' }], '53/udp': [{}] };
    expect(portWishes(bindings, [], false, both)).toEqual([
      { protocol: 'tcp', containerPort: 80, hostIps: ['0.0.0.0', '::'], range: [8080, 8080] },
      { protocol: 'tcp', containerPort: 80, hostIps: ['127.0.0.1'], range: [81, 81] },
      { protocol: 'udp', containerPort: 53, hostIps: ['0.0.0.0', '::'] },
    ]);
    expect(portWishes({ '80/tcp': [{}] }, [], false, { hostIp: '10.0.0.1', ipv6: true })[0]?.hostIps).toEqual(['10.0.0.1']);
    expect(() => portWishes({ '80/tcp': [{ HostIp: 'here' }] }, [], false, both)).toThrow('invalid IP address: here');
  });

  it('gives exposed ports a host port only with publish-all', () => {
    expect(portWishes({}, ['80/tcp'], false, both)).toEqual([]);
    expect(portWishes({ '80/tcp': [{ HostPort: '80' }] }, ['80/tcp', '81'], true, both).map(({ containerPort }) => containerPort)).toEqual([
      80, 81,
    ]);
  });
});

describe('allocation', () => {
  it('gives one host port for both families and goes on along a range', async () => {
    const holder = new FakeHolder();
    holder.refusals.set(':: tcp 8000', 'in-use');
    const ports = await new PortAllocator(holder, nobodys).allocate(
      portWishes({ '80/tcp': [{ HostPort: '8000-8001' }] }, [], false, both),
      {},
      endpoint,
    );
    expect(ports.map(({ hostIp, hostPort }) => `${hostIp} ${hostPort}`)).toEqual(['0.0.0.0 8001', ':: 8001']);
    expect(holder.held).toEqual(new Set(['0.0.0.0 tcp 8001', ':: tcp 8001']));
  });

  it('holds all or none, and says why in dockerd’s words', async () => {
    const holder = new FakeHolder();
    const allocator = new PortAllocator(holder, nobodys);
    const wishes = portWishes({ '80/tcp': [{ HostPort: '80' }], '81/tcp': [{ HostPort: '81' }] }, [], false, both);
    for (const [refusal, words] of [
      ['ours', 'Bind for 0.0.0.0:81 failed: port is already allocated'],
      ['in-use', 'failed to bind host port for 0.0.0.0:81/tcp: address already in use'],
    ] as const) {
      holder.refusals.set('0.0.0.0 tcp 81', refusal);
      await expect(allocator.allocate(wishes, {}, endpoint)).rejects.toThrow(
        `driver failed programming external connectivity on endpoint web (e1): ${words}`,
      );
      expect(holder.held.size).toBe(0);
    }
    const recorded = new PortAllocator(holder, ({ hostPort }) => hostPort === 81);
    await expect(recorded.allocate(wishes, {}, endpoint)).rejects.toThrow('Bind for 0.0.0.0:81 failed: port is already allocated');
    const many = Object.fromEntries([1, 2, 3, 4, 5, 6].map((port) => [`${port}/tcp`, [{ HostPort: String(port) }]]));
    await expect(recorded.allocate(portWishes(many, [], false, both), {}, endpoint)).rejects.toThrow(
      'failed to bind 12 host ports: too many open files',
    );
    expect(holder.held.size).toBe(0);
  });

  it('lets others have their turn while it holds thousands', async () => {
    const holder = new FakeHolder();
    holder.most = 3_000;
    const many = Object.fromEntries(Array.from({ length: 3_000 }, (_, index) => [`${index + 1}/tcp`, [{}]]));
    const allocated = new PortAllocator(holder, nobodys).allocate(
      portWishes(many, [], false, { hostIp: '0.0.0.0', ipv6: false }),
      {},
      endpoint,
    );
    await setImmediate();
    expect(holder.held.size).toBeLessThan(3_000);
    expect(await allocated).toHaveLength(3_000);
  });

  it('gives random ports one after the other', async () => {
    const allocator = new PortAllocator(new FakeHolder(), nobodys);
    const wish = portWishes({ '80/tcp': [{}] }, [], false, { hostIp: '0.0.0.0', ipv6: false });
    for (const hostPort of [32_768, 32_769]) expect(await allocator.allocate(wish, {}, endpoint)).toMatchObject([{ hostPort }]);
  });
});

it('shows exposed ports without a binding as null', () => {
  expect(portMapOf([{ protocol: 'tcp', containerPort: 80, hostIp: '::', hostPort: 8080 }], ['80/tcp', '53/udp', '9'])).toEqual({
    '80/tcp': [{ HostIp: '::', HostPort: '8080' }],
    '53/udp': null,
    '9/tcp': null,
  });
});
