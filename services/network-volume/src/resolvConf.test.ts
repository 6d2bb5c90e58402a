import { describe, expect, it } from 'vitest';
import { changedHosts, hostsFile, ownNames, parseExtraHost } from './hostsFile.ts';
import { directResolvConf, embeddedResolvConf, parseResolvConf, resolverSettings, upstreamServers } from './resolvConf.ts';

const none = { dns: [], search: [], options: [] };
const host = parseResolvConf(
  '# stub\nnameserver 127.0.0.53\nnameserver 10.0.0.1 ; comment\nnameserver fd00::1\nnameserver junk\nsearch a.test b.test\noptions edns0 ndots:2\n',
);
const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

describe('resolv.conf', () => {
  it('is read as resolvers read it', () => {
    expect(host).toEqual({
      nameservers: ['127.0.0.53', '10.0.0.1', 'fd00::1'],
      search: ['a.test', 'b.test'],
      options: ['edns0', 'ndots:2'],
    });
  });

  it('names only servers the container reaches', () => {
    expect(lines(directResolvConf(host, { ipv6: false, fromHost: true }))).toEqual([
      'nameserver 10.0.0.1',
      'search a.test b.test',
      'options edns0 ndots:2',
    ]);
    expect(lines(directResolvConf(host, { ipv6: true, fromHost: true }))[1]).toBe('nameserver fd00::1');
    expect(lines(directResolvConf(parseResolvConf('nameserver ::1'), { ipv6: true, fromHost: true }))).toEqual([
      'nameserver 8.8.8.8',
      'nameserver 8.8.4.4',
    ]);
  });

  it('takes the wishes in place of the host’s, and a lone dot as no search', () => {
    const wished = resolverSettings(host, { dns: ['127.0.0.1'], search: ['.'], options: ['timeout:1'] });
    expect(lines(directResolvConf(wished, { ipv6: false, fromHost: false }))).toEqual(['nameserver 127.0.0.1', 'options timeout:1']);
    expect(resolverSettings(host, none)).toEqual(host);
  });

  it('names the embedded server on user-made networks, which asks the others', () => {
    expect(lines(embeddedResolvConf(host))).toEqual(['nameserver 127.0.0.11', 'search a.test b.test', 'options edns0 ndots:2']);
    expect(lines(embeddedResolvConf(parseResolvConf('')))).toEqual(['nameserver 127.0.0.11', 'options ndots:0']);
  });

  it('asks the host’s servers from the host, and from inside what the container names or can reach without a way out', () => {
    const [leadsOut, namesServers] = [true, false];
    expect(upstreamServers(host, { leadsOut, namesServers })).toEqual({ servers: host.nameservers, isInside: false });
    expect(upstreamServers(parseResolvConf(''), { leadsOut, namesServers }).servers).toEqual(['8.8.8.8', '8.8.4.4']);
    const reachable = host.nameservers.filter((server) => server !== '127.0.0.53');
    expect(upstreamServers(host, { leadsOut: false, namesServers })).toEqual({ servers: reachable, isInside: true });
    const own = parseResolvConf('nameserver 127.0.0.11\nnameserver 127.0.0.1');
    for (const way of [true, false]) {
      expect(upstreamServers(own, { leadsOut: way, namesServers: true })).toEqual({ servers: ['127.0.0.1'], isInside: true });
    }
  });
});

describe('hosts', () => {
  it('begins with localhost and holds what is given', () => {
    const text = hostsFile([{ address: '10.0.0.2', names: ownNames('web', 'lab.test') }]);
    expect(text.split('\n')[0]).toBe('127.0.0.1\tlocalhost');
    expect(text).toContain('10.0.0.2\tweb.lab.test web\n');
    expect(ownNames('web.lab.test', '')).toEqual(['web.lab.test', 'web']);
    expect(ownNames('web', '')).toEqual(['web']);
  });

  it('follow a change line by line, around what somebody else wrote', () => {
    const [one, two] = [hostsFile([{ address: '10.0.0.2', names: ['web'] }]), hostsFile([{ address: '10.1.0.2', names: ['web'] }])];
    const both = hostsFile([
      { address: '10.0.0.2', names: ['web'] },
      { address: '10.1.0.2', names: ['web'] },
    ]);
    expect(changedHosts(one, one, both)).toBe(both);
    expect(changedHosts(both, both, one)).toBe(one);
    const edited = one.replace('localhost', 'localhost mine');
    expect(changedHosts(edited, one, both)).toBe(both.replace('localhost', 'localhost mine'));
    expect(changedHosts(`${one}10.9.9.9\tmine`, one, two)).toBe(`${hostsFile([])}10.9.9.9\tmine\n10.1.0.2\tweb\n`);
    expect(changedHosts('', one, both)).toBe('10.1.0.2\tweb\n');
  });

  it('takes name:address, also of IPv6', () => {
    expect(parseExtraHost('a:10.0.0.1')).toEqual({ name: 'a', address: '10.0.0.1' });
    expect(parseExtraHost('a=[fd00::1]')).toEqual({ name: 'a', address: 'fd00::1' });
    expect(parseExtraHost('a:fd00::1')).toEqual({ name: 'a', address: 'fd00::1' });
    expect(parseExtraHost('a')).toBeUndefined();
  });
});
