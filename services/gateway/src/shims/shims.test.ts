import type { ContainerCreateRequest, SystemInfo } from '@flotilla/engine-api';
import { describe, expect, it } from 'vitest';
import { shimContainerInspect, shimContainerList } from './containerAnswers.ts';
import { shimContainerCreate } from './containerCreate.ts';
import { shimImageInspect, shimImageList } from './images.ts';
import { shimSystemInfo } from './system.ts';

const bytes = (document: unknown): Buffer => Buffer.from(JSON.stringify(document));

function created(config: ContainerCreateRequest, version: string, cgroupV2 = true): ContainerCreateRequest & { warnings: string[] } {
  const warnings = shimContainerCreate(config, version, cgroupV2);
  return { ...config, warnings };
}

describe('ContainerCreate in older versions', () => {
  it('gives old defaults', () => {
    expect(created({ HostConfig: { AutoRemove: true } }, '1.24', false).HostConfig).toEqual({
      NetworkMode: 'bridge',
      IpcMode: 'shareable',
      CgroupnsMode: 'host',
    });
    expect(created({ HostConfig: { AutoRemove: true } }, '1.50').HostConfig).toEqual({ NetworkMode: 'bridge', AutoRemove: true });
  });

  it('moves the endpoint of `default`', () => {
    const config = created({ NetworkingConfig: { EndpointsConfig: { default: { Aliases: ['a'] } } } }, '1.50');
    expect(config.NetworkingConfig?.EndpointsConfig).toEqual({ bridge: { Aliases: ['a'] } });
  });

  it('moves the container-wide MAC address to its endpoint', () => {
    const mac = '02:00:00:00:00:01';
    const old = created({ MacAddress: mac, HostConfig: { NetworkMode: 'n' } }, '1.40');
    expect([old.MacAddress, old.NetworkingConfig?.EndpointsConfig, old.warnings]).toEqual([mac, { n: { MacAddress: mac } }, []]);
    const now = created({ MacAddress: mac, HostConfig: { NetworkMode: 'n' } }, '1.50');
    expect(now.NetworkingConfig?.EndpointsConfig).toEqual({ n: { MacAddress: mac } });
    expect(now.warnings).toEqual([
      'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.',
    ]);
    const ignored = created({ NetworkingConfig: { EndpointsConfig: { n: { MacAddress: mac } } } }, '1.43');
    expect(ignored.NetworkingConfig?.EndpointsConfig).toEqual({ n: {} });
    expect(() =>
      created({ MacAddress: mac, NetworkingConfig: { EndpointsConfig: { bridge: { MacAddress: '02:00:00:00:00:02' } } } }, '1.50'),
    ).toThrow('must match the endpoint-specific MAC address');
    for (const NetworkMode of ['host', 'none', 'container:x']) {
      const shared = { MacAddress: mac, HostConfig: { NetworkMode } };
      expect(() => created(shared, '1.43')).toThrow('conflicting options: mac-address and the network mode');
      expect(created(shared, '1.44').MacAddress).toBeUndefined();
    }
  });

  it('refuses what the version cannot mean', () => {
    const two = { NetworkingConfig: { EndpointsConfig: { a: {}, b: {} } } };
    expect(() => created(structuredClone(two), '1.43')).toThrow('Container cannot be created with multiple network endpoints: a, b');
    expect(() => created(structuredClone(two), '1.44')).not.toThrow();
    const foreign = { HostConfig: { Mounts: [{ Type: 'bind', VolumeOptions: {} }] } };
    expect(created(structuredClone(foreign), '1.41').HostConfig?.Mounts).toEqual([{ Type: 'bind' }]);
    expect(() => created(structuredClone(foreign), '1.42')).toThrow('VolumeOptions must not be specified on mount type "bind"');
    expect(() => created({ HostConfig: { Mounts: [{ Type: 'volume', VolumeOptions: { Subpath: 'a' } }] } }, '1.44')).toThrow(
      'VolumeOptions.Subpath needs API v1.45 or newer',
    );
  });

  it('moves sysctls of eth0 to the endpoint', () => {
    const config = created({ HostConfig: { Sysctls: { 'net.ipv6.conf.eth0.forwarding': '1', 'net.core.somaxconn': '2' } } }, '1.46');
    expect(config.HostConfig?.Sysctls).toEqual({ 'net.core.somaxconn': '2' });
    expect(config.NetworkingConfig?.EndpointsConfig?.bridge?.DriverOpts).toEqual({
      'com.docker.network.endpoint.sysctls': 'net.ipv6.conf.IFNAME.forwarding=1',
    });
    expect(config.warnings).toHaveLength(1);
    expect(() => created({ HostConfig: { Sysctls: { 'net.ipv6.conf.eth0.forwarding': '1' } } }, '1.47')).toThrow(
      'must be supplied using driver option',
    );
  });
});

describe('answers in older versions', () => {
  it('pass through as they are for the newest', () => {
    const document = bytes({ a: 1 });
    expect(shimContainerInspect(document, '1.50')).toBe(document);
    expect(shimContainerList(document, '1.50')).toBe(document);
    expect(shimImageList(document, '1.50')).toBe(document);
    expect(shimImageInspect(document, '1.50')).toBe(document);
  });

  it('name the short id among the aliases before 1.45', () => {
    const document = bytes({
      Id: '0123456789abcdef',
      Config: { Hostname: 'h' },
      ImageManifestDescriptor: {},
      NetworkSettings: {
        Networks: { bridge: { Aliases: null }, mine: { Aliases: ['web'], DNSNames: [] }, later: { Aliases: ['web'], DNSNames: null } },
      },
    });
    expect(shimContainerInspect(document, '1.44')).toEqual({
      Id: '0123456789abcdef',
      Config: { Hostname: 'h' },
      NetworkSettings: {
        Networks: {
          bridge: { Aliases: null },
          mine: { Aliases: ['web', '0123456789ab', 'h'], DNSNames: [] },
          later: { Aliases: ['web'], DNSNames: null },
        },
      },
    });
  });

  it('show images as they were shown', () => {
    expect(shimImageList(bytes([{ Size: 5, RepoTags: [], RepoDigests: [], Descriptor: {} }]), '1.40')).toEqual([
      { Size: 5, VirtualSize: 5, RepoTags: ['<none>:<none>'], RepoDigests: ['<none>@<none>'] },
    ]);
    expect(shimImageInspect(bytes({ Size: 5, Config: { Cmd: ['sh'] } }), '1.43')).toMatchObject({
      VirtualSize: 5,
      Created: '0001-01-01T00:00:00Z',
      Config: { Cmd: ['sh'], Hostname: '', Env: null },
    });
  });

  it('show the engine as it was shown', () => {
    const commit = { ID: '' };
    const info = {
      SecurityOptions: ['name=seccomp,profile=builtin'],
      BridgeNfIptables: true,
      BridgeNfIp6tables: true,
      ContainerdCommit: commit,
      RuncCommit: commit,
      InitCommit: commit,
    } as SystemInfo;
    expect(shimSystemInfo(info, '1.50')).not.toHaveProperty('BridgeNfIptables');
    expect(shimSystemInfo(info, '1.49')).toHaveProperty('BridgeNfIptables', true);
    expect(shimSystemInfo(info, '1.24')).toMatchObject({ SecurityOptions: ['seccomp'], ExecutionDriver: '<not supported>' });
  });
});
