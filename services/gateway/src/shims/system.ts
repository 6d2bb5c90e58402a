/** What older API versions expect in the answers about the engine. */
import type { SystemInfo } from '@flotilla/engine-api';
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
  if (older('1.49')) delete shown.FirewallBackend;
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
