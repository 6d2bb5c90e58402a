/** Writes a spec as the JSON runtimes read. */
import type { RuntimeProcess, RuntimeSpec } from '@flotilla/oci';

/** "Unlimited" of an rlimit: above what a JavaScript number holds exactly, so it is written by hand. */
const unlimited = 2 ** 64;

interface RawJson {
  rawJSON(text: string): unknown;
}

export function encodeSpec(spec: RuntimeSpec | RuntimeProcess): string {
  // In Node, but not yet in the compiler's library.
  const json = JSON as typeof JSON & RawJson;
  return JSON.stringify(spec, (_, value: unknown) => (value === unlimited ? json.rawJSON('18446744073709551615') : value));
}
