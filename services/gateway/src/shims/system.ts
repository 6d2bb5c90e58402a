/** What older API versions expect in the answers about the engine. */
import type { SystemInfo } from '@flotilla/engine-api';
import { compareVersions } from '../http/apiVersion.ts';

/** SystemInfo: before 1.25 security options are names alone; removed fields are back for those who knew them. */
export function shimSystemInfo(info: SystemInfo, version: string): object {
  const older = (than: string): boolean => compareVersions(version, than) < 0;
  let shown: Record<string, unknown> = { ...info };
  if (older('1.25')) {
    const names = info.SecurityOptions.map((option) => /(?:^|,)name=([^,]+)/.exec(option)?.[1] ?? option);
    shown = { ...shown, ExecutionDriver: '<not supported>', SecurityOptions: names };
  }
  if (older('1.42')) shown = { ...shown, KernelMemory: false, ClusterStore: '', ClusterAdvertise: '' };
  if (older('1.46')) delete shown.Containerd;
  if (older('1.47')) shown = { ...shown, BridgeNfIptables: info.BridgeNfIptables, BridgeNfIp6tables: info.BridgeNfIp6tables };
  if (older('1.49')) delete shown.FirewallBackend;
  if (older('1.50')) delete shown.DiscoveredDevices;
  return shown;
}
