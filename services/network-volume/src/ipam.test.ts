import { describe, expect, it } from 'vitest';
import { lowestFree, requestedAddress, type Subnet } from './addressAllocator.ts';
import { addressPools, freeSubnet } from './addressPools.ts';
import { addressText, type Cidr, cidrText, overlaps, parseAddress, parseCidr } from './cidr.ts';
import { checkIpam, chooseSubnets } from './ipam.ts';

function cidr(text: string): Cidr {
  const found = parseCidr(text);
  if (found === undefined) throw new Error(text);
  return found;
}

describe('addresses and blocks', () => {
  it.each(['1.2.3', '1.2.3.4.5', 'fe80::1%eth0', '01.2.3.4', '', 'localhost', '::g'])('%s is no address', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  it.each(['10.0.0.0', '10.0.0.0/', '10.0.0.0/33', '10.0.0.0/-1', 'fd00::/129', '/8', '10.0.0.0/8/8'])('%s is no block', (text) => {
    expect(parseCidr(text)).toBeUndefined();
  });

  it('keeps their text canonical', () => {
    expect(cidrText(cidr('10.1.2.3/8'))).toBe('10.0.0.0/8');
    expect(addressText(6, parseAddress('FD00:0:0::0:1')?.value ?? 0n)).toBe('fd00::1');
    expect(overlaps(cidr('10.0.0.0/8'), cidr('10.255.0.0/16'))).toBe(true);
    expect(overlaps(cidr('10.0.0.0/8'), cidr('11.0.0.0/8'))).toBe(false);
    expect(overlaps(cidr('0.0.0.0/0'), cidr('::/0'))).toBe(false);
  });
});

describe('default pools', () => {
  it('go in dockerd’s order and leave out what the host has', () => {
    const pools = addressPools([], 'e');
    expect(cidrText(freeSubnet(pools, 4, []))).toBe('172.17.0.0/16');
    expect(cidrText(freeSubnet(pools, 4, [cidr('172.17.5.0/24'), cidr('172.18.0.0/15')]))).toBe('172.20.0.0/16');
    expect(cidrText(freeSubnet(pools, 4, [cidr('172.16.0.0/12')]))).toBe('192.168.0.0/20');
    expect(() => freeSubnet(pools, 4, [cidr('0.0.0.0/0')])).toThrow('all predefined address pools have been fully subnetted');
  });

  it('have unique local subnets for IPv6, the same ones that dockerd derives from an engine’s id', () => {
    const pools = addressPools([], '499d4bc0-b0b3-416f-b1ee-cf6486315593');
    expect(cidrText(freeSubnet(pools, 6, []))).toBe('fd62:fb69:18af::/64');
    expect(cidrText(freeSubnet(pools, 6, [cidr('fd62:fb69:18af::/64')]))).toBe('fd62:fb69:18af:1::/64');
    expect(cidrText(freeSubnet(addressPools([], ''), 6, []))).toBe('fd42:98fc:1c14::/64');
    expect(cidrText(freeSubnet(addressPools([{ base: 'fd00:7::/48', size: 64 }], ''), 6, []))).toBe('fd00:7::/64');
  });

  it('may be the operator’s', () => {
    const pools = addressPools([{ base: '10.10.0.0/16', size: 24 }], 'e');
    expect(cidrText(freeSubnet(pools, 4, [cidr('10.10.0.0/24')]))).toBe('10.10.1.0/24');
    expect(() => addressPools([{ base: '10.10.0.0/16', size: 8 }], 'e')).toThrow('cannot be cut');
    expect(() => addressPools([{ base: 'x', size: 8 }], 'e')).toThrow('invalid address pool');
  });
});

describe('addresses of containers', () => {
  const subnet: Subnet = { cidr: cidr('10.0.0.0/29'), reserved: [parseAddress('10.0.0.1')?.value ?? 0n] };

  it('are the lowest free, never network, gateway or broadcast', () => {
    const taken = new Set<string>();
    for (const expected of ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']) {
      const address = lowestFree(subnet, (one) => taken.has(one)) ?? '';
      expect(address).toBe(expected);
      taken.add(address);
    }
    expect(lowestFree(subnet, (one) => taken.has(one))).toBeUndefined();
  });

  it('come from the range when there is one, and may be asked for outside it', () => {
    const ranged = { ...subnet, cidr: cidr('10.0.0.0/24'), range: cidr('10.0.0.128/25') };
    expect(lowestFree(ranged, () => false)).toBe('10.0.0.128');
    expect(requestedAddress([ranged], 4, '10.0.0.9', () => false).address).toBe('10.0.0.9');
    expect(() => requestedAddress([ranged], 4, '10.0.0.1', () => false)).toThrow('Address already in use');
    expect(() => requestedAddress([ranged], 4, '10.0.0.9', () => true)).toThrow('Address already in use');
    expect(() => requestedAddress([ranged], 4, '10.0.1.9', () => false)).toThrow('no configured subnet');
    expect(() => requestedAddress([ranged], 4, '10.0.0', () => false)).toThrow('invalid IPv4 address');
  });
});

describe('the IPAM of a request', () => {
  const cases: [string, Parameters<typeof checkIpam>[0], string][] = [
    ['a subnet that is none', { Config: [{ Subnet: 'x' }] }, 'invalid network config:\ninvalid subnet x: invalid CIDR block notation'],
    ['host bits', { Config: [{ Subnet: '10.0.0.1/24' }] }, 'invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24'],
    [
      'a range outside',
      { Config: [{ Subnet: '10.0.0.0/24', IPRange: '10.0.1.0/25' }] },
      "parent subnet 10.0.0.0/24 doesn't contain ip-range",
    ],
    [
      'a range that is bigger',
      { Config: [{ Subnet: '10.0.0.0/24', IPRange: '10.0.0.0/16' }] },
      'CIDR block is bigger than its parent subnet',
    ],
    [
      'a gateway outside',
      { Config: [{ Subnet: '10.0.0.0/24', Gateway: '10.0.1.1' }] },
      "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
    ],
    [
      'an auxiliary address that is none',
      { Config: [{ Subnet: '10.0.0.0/24', AuxiliaryAddresses: { a: 'b' } }] },
      'invalid auxiliary address a: invalid address',
    ],
    [
      'several mistakes',
      { Config: [{ Subnet: '10.0.0.1/24', Gateway: 'y' }] },
      '* invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24\n* invalid gateway y: invalid address',
    ],
  ];
  it.each(cases)('refuses %s', (_name, ipam, message) => {
    expect(() => checkIpam(ipam, false)).toThrow(message);
  });

  it('becomes subnets with a gateway, and overlap is refused', () => {
    const base = {
      enableIPv4: true,
      enableIPv6: false,
      gateways: () => 'chosen' as const,
      pools: addressPools([], 'e'),
      ours: [cidr('10.1.0.0/16')],
      routes: [cidr('172.17.0.0/16')],
    };
    expect(chooseSubnets({ ...base, ipam: undefined })).toEqual([{ subnet: '172.18.0.0/16', gateway: '172.18.0.1', configured: false }]);
    const aux = { Config: [{ Subnet: '10.2.0.0/24', AuxiliaryAddresses: { router: '10.2.0.1' } }] };
    expect(chooseSubnets({ ...base, ipam: aux })).toMatchObject([
      { gateway: '10.2.0.2', auxiliary: { router: '10.2.0.1' }, configured: true },
    ]);
    expect(() => chooseSubnets({ ...base, ipam: { Config: [{ Subnet: '10.1.5.0/24' }] } })).toThrow(
      'invalid pool request: Pool overlaps with other one on this address space',
    );
    // A route of the host's forbids nothing that was asked for by name.
    expect(chooseSubnets({ ...base, ipam: { Config: [{ Subnet: '172.17.9.0/24' }] } })).toMatchObject([{ subnet: '172.17.9.0/24' }]);
  });
});
