/** Regular expressions that clients write, read as dockerd reads them (RE2): a match takes as long as pattern and text are long, whatever is written. */
import { createRequire } from 'node:module';

export interface RegularExpression {
  /** Whether it finds something in the text. */
  test(text: string): boolean;
}

const require = createRequire(import.meta.url);
/** Such a pattern finds itself. */
const plain = /^[\w/-]*$/;

/** @throws Error in Go's words, `error parsing regexp: …`, for one that cannot be; RE2 has no back references and does not look around. */
export function regularExpression(pattern: string): RegularExpression {
  if (plain.test(pattern)) return { test: (text) => text.includes(pattern) };
  // Loaded when it is needed: 4 MB that most services never use.
  const { RE2JS } = require('re2js') as typeof import('re2js');
  const compiled = RE2JS.compile(pattern);
  return { test: (text) => compiled.test(text) };
}

/** As dockerd's filters do: a text that is the value, or that the value finds something in. One that cannot be finds nothing. */
export function textFilter(value: string): (text: string) => boolean {
  try {
    const expression = regularExpression(value);
    return (text) => text === value || expression.test(text);
  } catch {
    return (text) => text === value;
  }
}
