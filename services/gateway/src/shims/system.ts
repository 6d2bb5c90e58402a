/** What older API versions expect in the answers about the engine. */
import type { BuildCacheRecord, ImageSummary, SystemInfo } from '@flotilla/engine-api';
import { compareVersions } from '../http/apiVersion.ts';

/** SystemInfo: before 1.25 security options are names alone; fields that were removed are back for those who knew them. */
export function shimSystemInfo(info: SystemInfo, version: string): object {
  const older = (than: string): boolean => compareVersions(version, than) < 0;
  const { BridgeNfIptables, BridgeNfIp6tables, RegistryConfig, ...current } = info;
  const {
    AllowNondistributableArtifactsCIDRs: _cidrs,
    AllowNondistributableArtifactsHostnames: _names,
    ...registry
  } = RegistryConfig ?? {};
  let shown: Record<string, unknown> = { ...current, RegistryConfig: RegistryConfig === null ? null : registry };
  if (older('1.50')) {
    delete shown.DiscoveredDevices;
    shown = { ...shown, BridgeNfIptables, BridgeNfIp6tables };
  }
  if (older('1.49')) {
    delete shown.FirewallBackend;
    const expected = <T extends { ID: string }>(commit: T) => ({ ...commit, Expected: commit.ID });
    shown = {
      ...shown,
      ContainerdCommit: expected(info.ContainerdCommit),
      RuncCommit: expected(info.RuncCommit),
      InitCommit: expected(info.InitCommit),
    };
  }
  if (older('1.47')) {
    shown.RegistryConfig = { AllowNondistributableArtifactsCIDRs: null, AllowNondistributableArtifactsHostnames: null, ...registry };
  }
  if (older('1.46')) delete shown.Containerd;
  if (older('1.42')) shown = { ...shown, KernelMemory: false, ClusterStore: '', ClusterAdvertise: '' };
  if (older('1.25')) {
    const names = info.SecurityOptions.map((option) => /(?:^|,)name=([^,]+)/.exec(option)?.[1] ?? option);
    shown = { ...shown, ExecutionDriver: '<not supported>', SecurityOptions: names };
  }
  return shown;
}

/** SystemDataUsage: before 1.44 VirtualSize, before 1.42 one parent of a cache record, and the size of the cache. */
export function shimDiskUsage(bytes: Uint8Array, version: string): object {
  const older = (than: string): boolean => compareVersions(version, than) < 0;
  if (!older('1.44')) return bytes;
  const usage = JSON.parse(new TextDecoder().decode(bytes)) as {
    Images: ImageSummary[] | null;
    BuildCache: (BuildCacheRecord & { Parents?: string[] })[] | null;
  };
  const shown = { ...usage, Images: usage.Images?.map((image) => ({ ...image, VirtualSize: image.Size })) ?? null };
  if (!older('1.42')) return shown;
  const records = usage.BuildCache ?? [];
  return {
    ...shown,
    BuildCache: records.map(({ Parents, ...record }) => (Parents?.[0] === undefined ? record : { ...record, Parent: Parents[0] })),
    BuilderSize: records.reduce((sum, { Size }) => sum + Size, 0),
  };
}
