/** The proxy's own secret: keys the hashes of credentials and signs upload locations. Made once, readable by its user alone. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { readIfThere, writeDurably } from './durableFile.ts';

const secretBytes = 32;

export async function openSecret(root: string): Promise<Buffer> {
  const path = join(root, 'secret');
  const known = await readIfThere(path);
  if (known?.length === secretBytes) return known;
  await writeDurably(path, randomBytes(secretBytes), 'new');
  // A replica may have been quicker: one of the two counts for both.
  return (await readIfThere(path)) ?? Promise.reject(new Error(`cannot read ${path}`));
}
