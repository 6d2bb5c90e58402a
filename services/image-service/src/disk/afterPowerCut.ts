/** At start: what was not on the disk yet when the machine lost its power is compared with its digests, and mended or thrown away. */
import type { Logger } from '@flotilla/service-kit';
import type { Suspect } from '../unsynced.ts';
import { checkDisk, type DiskCheckOptions } from './diskCheck.ts';

export async function checkAfterPowerCut({
  logger,
  ...options
}: Omit<DiskCheckOptions, 'repair' | 'suspects'> & { logger: Logger }): Promise<void> {
  const { content, layers, recordsAreLost } = options.store;
  const isUnknown = ({ kind, digest }: Suspect): boolean => kind === 'layer' && layers.get(digest) === undefined;
  // A layer that no record knows has nothing to be compared with. Whose it is shows when records that are lost are back: until then its note stays too.
  const suspects = content.unsynced.suspects().filter((suspect) => !recordsAreLost || !isUnknown(suspect));
  if (suspects.length === 0) return;
  for (const suspect of suspects) if (isUnknown(suspect)) content.discardLayer(suspect.digest);
  const digests = new Set(suspects.map(({ digest }) => digest));
  for await (const { kind, name, detail } of checkDisk({ ...options, repair: true, suspects: digests })) {
    logger.warn({ kind, name }, `after a power cut: ${detail}`);
  }
  content.unsynced.forget(suspects.map(({ note }) => note));
}
