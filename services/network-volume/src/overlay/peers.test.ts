import { expect, it } from 'vitest';
import { Peers } from './peers.ts';
import { type Claim, claimKey, parseClaimKey } from './shared.ts';

const networkId = 'a'.repeat(64);
const claim: Claim = {
  engine: 'theirs',
  host: '198.18.0.11',
  containerId: 'c',
  containerName: 'two',
  mac: '02:42:0a:00:00:02',
  names: ['two', 'port'],
  time: 0,
};

it('keys of claims hold addresses of both families', () => {
  for (const address of ['10.0.0.2', 'fd00::2', 'fd12:3456::a:1']) {
    expect(claimKey(networkId, address)).toMatch(/^[-/_=.a-zA-Z0-9]+$/);
    expect(parseClaimKey(claimKey(networkId, address))).toEqual({ networkId, address });
  }
  expect(parseClaimKey('host.theirs')).toBeUndefined();
});

it('a MAC address is forgotten with the last address that has it there', () => {
  const peers = new Peers('ours');
  expect(peers.set(networkId, '10.0.0.2', claim)).toEqual({ now: { address: '10.0.0.2', mac: claim.mac, host: claim.host } });
  peers.set(networkId, 'fd00::2', claim);
  expect(peers.lookup(networkId, 'port', 'sea', () => true)).toEqual([
    { containerName: 'two', networkName: 'sea', ipv4: '10.0.0.2' },
    { containerName: 'two', networkName: 'sea', ipv6: 'fd00::2' },
  ]);
  expect(peers.lookup(networkId, 'port', 'sea', () => false)).toEqual([]);
  expect(peers.set(networkId, '10.0.0.2', undefined).gone).toMatchObject({ address: '10.0.0.2', isLastOfMac: false });
  expect(peers.set(networkId, 'fd00::2', undefined).gone).toMatchObject({ address: 'fd00::2', isLastOfMac: true });
});

it('an address that has moved is forgotten where it was and learnt where it is; one that is told again changes nothing', () => {
  const peers = new Peers('ours');
  peers.set(networkId, '10.0.0.2', claim);
  expect(peers.set(networkId, '10.0.0.2', { ...claim, time: 1 }).gone).toBeUndefined();
  expect(peers.set(networkId, '10.0.0.2', { ...claim, host: '198.18.0.12' })).toMatchObject({
    gone: { host: '198.18.0.11', isLastOfMac: true },
    now: { host: '198.18.0.12' },
  });
  expect(peers.set(networkId, '10.0.0.3', { ...claim, engine: 'ours' })).toEqual({});
});
