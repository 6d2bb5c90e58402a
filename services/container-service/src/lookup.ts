/** Finding the container that a client means: by full id, by name, by the name of a link (`parent/alias`), or by an unambiguous prefix of an id. */
import { InvalidParameter, NotFound } from '@flotilla/errors';
import type { Collection } from '@flotilla/records';
import type { ContainerRecord } from './container.ts';
import { linkTargets } from './links.ts';
import type { NameRecord } from './store.ts';

interface Records {
  readonly containers: Pick<Collection<ContainerRecord>, 'get' | 'ids'>;
  readonly names: Pick<Collection<NameRecord>, 'get'>;
}

/**
 * @param reference - with or without a leading slash.
 * @throws NotFound in dockerd's words; InvalidParameter when a prefix fits several.
 */
export function findContainer(records: Records, reference: string): ContainerRecord {
  if (reference === '') throw new InvalidParameter('invalid name or ID supplied: ""');
  const found = findIfThere(records, reference);
  if (found === undefined) throw new NotFound(`No such container: ${reference}`);
  return found;
}

/** @throws InvalidParameter when a prefix fits several. */
export function findIfThere(records: Records, reference: string): ContainerRecord | undefined {
  const exact = records.containers.get(reference);
  if (exact !== undefined) return exact;
  const name = reference.startsWith('/') ? reference.slice(1) : reference;
  const named = records.names.get(name);
  const byName = named === undefined ? undefined : records.containers.get(named.id);
  if (byName !== undefined) return byName;
  return /^[0-9a-f]{1,64}$/.test(name) ? findByPrefix(records, name) : findByLink(records, name);
}

function findByLink(records: Records, name: string): ContainerRecord | undefined {
  const [parentName = '', alias] = name.split('/');
  const parent = alias === undefined ? undefined : records.containers.get(records.names.get(parentName)?.id ?? '');
  if (parent === undefined) return undefined;
  return linkTargets(parent, (id) => records.containers.get(id)).find((link) => link.alias === alias)?.container;
}

function findByPrefix(records: Records, prefix: string): ContainerRecord | undefined {
  let found: string | undefined;
  for (const id of records.containers.ids()) {
    if (!id.startsWith(prefix)) continue;
    if (found !== undefined) throw new InvalidParameter(`multiple IDs found with provided prefix: ${prefix}`);
    found = id;
  }
  return found === undefined ? undefined : records.containers.get(found);
}
