/** At start: what was not on the disk yet when the machine lost its power is compared with its digests, and mended or thrown away. */
import type { Logger } from '@flotilla/service-kit';
import { checkDisk, type DiskCheckOptions } from './diskCheck.ts';

export async function checkAfterPowerCut({
  logger,
  ...options
}: Omit<DiskCheckOptions, 'repair' | 'suspects'> & { logger: Logger }): Promise<void> {
  const { content, layers } = options.store;
  const suspects = content.unsynced.suspects();
  if (suspects.length === 0) return;
  for (const { kind, digest } of suspects) if (kind === 'layer' && layers.get(digest) === undefined) content.discardLayer(digest);
  const digests = new Set(suspects.map(({ digest }) => digest));
  for await (const { kind, name, detail } of checkDisk({ ...options, repair: true, suspects: digests })) {
    logger.warn({ kind, name }, `after a power cut: ${detail}`);
  }
  content.unsynced.forget(suspects.map(({ note }) => note));
}
