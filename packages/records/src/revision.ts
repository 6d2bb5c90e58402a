/** Revisions of a service's records: ids of its change stream, `<ms>-<sequence>`. */

/** Orders two of them. */
export function compareRevisions(a: string, b: string): number {
  const [aMs = '0', aSequence = '0'] = a.split('-');
  const [bMs = '0', bSequence = '0'] = b.split('-');
  return Number(aMs) - Number(bMs) || Number(aSequence) - Number(bSequence);
}

/** The very next one. */
export function nextRevision(revision: string): string {
  const [ms = '0', sequence = '0'] = revision.split('-');
  return `${ms}-${Number(sequence) + 1}`;
}
