/** The header WWW-Authenticate: one or more challenges, each a scheme with parameters. @see RFC 9110 section 11.6.1 */

export interface Challenge {
  /** in lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** names in lower case. */
  readonly parameters: Readonly<Record<string, string>>;
}

const maxHeaderLength = 8192;
const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y;

/** Reads every challenge of a header; what cannot be read is left out, as a client must not trip over a scheme it does not know. */
export function parseChallenges(header: string | undefined): Challenge[] {
  if (header === undefined || header.length > maxHeaderLength) return [];
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let at = 0;
  const skip = (pattern: RegExp): void => {
    pattern.lastIndex = at;
    if (pattern.test(header)) at = pattern.lastIndex;
  };
  const word = (): string | undefined => {
    token.lastIndex = at;
    const found = token.exec(header)?.[0];
    if (found !== undefined) at = token.lastIndex;
    return found;
  };
  while (at < header.length) {
    skip(/[\s,]+/y);
    const name = word();
    if (name === undefined) {
      at++;
      continue;
    }
    skip(/\s*/y);
    const current = challenges.at(-1);
    if (header[at] === '=' && current !== undefined) {
      at++;
      skip(/\s*/y);
      const value = header[at] === '"' ? quoted() : (word() ?? '');
      const key = name.toLowerCase();
      // The first wins: a later one is somebody's injection.
      if (!Object.hasOwn(current.parameters, key)) current.parameters[key] = value;
    } else {
      challenges.push({ scheme: name.toLowerCase(), parameters: Object.create(null) });
    }
  }
  return challenges;

  function quoted(): string {
    let value = '';
    for (at++; at < (header ?? '').length; at++) {
      const character = (header ?? '')[at];
      if (character === '"') {
        at++;
        break;
      }
      if (character === '\\') at++;
      value += (header ?? '')[at] ?? '';
    }
    return value;
  }
}
