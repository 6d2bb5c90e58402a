/** What somebody may have meant by a word that is none. */

/** Edits beyond which two words are too far apart. */
const maxDistance = 2;
/** Longer words are no slip of a finger, and comparing them takes long. */
const maxWordLength = 64;

/** The nearest of some words; undefined when none is near. */
function nearest(word: string, known: Iterable<string>): string | undefined {
  if (word.length > maxWordLength) return undefined;
  let found: string | undefined;
  let least = maxDistance + 1;
  for (const each of known) {
    if (Math.abs(each.length - word.length) >= least) continue;
    const edits = distance(word, each);
    if (edits >= least) continue;
    found = each;
    least = edits;
  }
  return found;
}

/** ` (did you mean x?)`, or nothing. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const found = nearest(word, known);
  return found === undefined || found === word ? '' : ` (did you mean ${found}?)`;
}

/** Characters to insert, take away or replace. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
