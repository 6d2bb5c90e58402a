/** The shape of a service's documents as a number, kept beside them as the record `schema/version`. What has no number is of the first. */

export interface Schema {
  /** What this code writes, and the newest it understands. */
  readonly version: number;
  /** `migrations[n]` makes of a document of version n one of n + 1, or undefined to let it go. One for each version before this. */
  readonly migrations: Readonly<Record<number, (kind: string, document: unknown) => unknown>>;
}

export const firstSchema: Schema = { version: 1, migrations: {} };

export const schemaKind = 'schema';
export const schemaId = 'version';
export const schemaField = `${schemaKind}/${schemaId}`;

/** A document as this code wants it, from one of an older version. */
export function migrate(schema: Schema, found: number, kind: string, document: unknown): unknown {
  let migrated = document;
  for (let version = found; version < schema.version && migrated !== undefined; version++) {
    const step = schema.migrations[version];
    if (step !== undefined) migrated = step(kind, migrated);
  }
  return migrated;
}

/** A field of the hash of records. */
export function splitField(field: string): [kind: string, id: string] {
  const slash = field.indexOf('/');
  return [field.slice(0, slash), field.slice(slash + 1)];
}
