/** The gRPC service Disk: decodes, calls, encodes. */
import type { DiskFinding as DiskFindingMessage, DiskService } from '@flotilla/contracts/flotilla/image/v1/disk';
import type { Handlers } from '@flotilla/service-kit';
import { checkDisk, type DiskCheckOptions } from '../disk/diskCheck.ts';

export function diskHandlers(parts: Pick<DiskCheckOptions, 'store' | 'workers' | 'maxLayerBytes'>): Handlers<typeof DiskService> {
  return {
    async *check(request, call): AsyncGenerator<DiskFindingMessage> {
      await parts.store.fresh();
      for await (const { sizeBytes, ...finding } of checkDisk({ ...parts, repair: request.repair, signal: call.signal })) {
        yield { ...finding, size: BigInt(sizeBytes) };
      }
    },
  };
}
