/** The one worker that a client sees: this engine. */
import { WorkerRecord } from '@flotilla/contracts/moby/buildkit/v1/control';
import { hostPlatform } from '@flotilla/oci';

export type WorkerList = () => Promise<WorkerRecord[]>;

/** Whose protocol we speak. */
export const buildkitVersion = { package: 'github.com/moby/buildkit', version: 'v0.13.2', revision: 'flotilla' };

/** @param hostAddress - what `host-gateway` stands for; empty when nobody knows. */
export function workerList(engineId: string, hostAddress: () => Promise<string>): WorkerList {
  return async () => {
    const address = await hostAddress();
    const { architecture, os, variant = '' } = hostPlatform();
    return [
      WorkerRecord.fromPartial({
        id: engineId,
        labels: {
          'org.mobyproject.buildkit.worker.executor': 'containers',
          ...(address === '' ? {} : { 'org.mobyproject.buildkit.worker.moby.host-gateway-ip': address }),
        },
        platforms: [{ architecture, os, variant }, ...(architecture === 'amd64' ? [{ architecture: '386', os }] : [])],
        buildkitVersion,
      }),
    ];
  };
}
