/** Splitting a line into words. Quotes and escapes stay in the words: they mean something when variables are expanded. */

/** Words parted by blanks that no quotes hold. */
export function shellWords(text: string, escapeToken: string): string[] {
  const words: string[] = [];
  let word = '';
  let inWord = false;
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const character = text[i] ?? '';
    if (quote === '' && /\s/.test(character)) {
      if (inWord) words.push(word);
      word = '';
      inWord = false;
      continue;
    }
    inWord = true;
    word += character;
    if (character === escapeToken && quote !== "'" && i + 1 < text.length) word += text[++i] ?? '';
    else if (quote === '' && (character === '"' || character === "'")) quote = character;
    else if (character === quote) quote = '';
  }
  if (inWord) words.push(word);
  return words;
}

export function blankWords(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}

/** A list of strings in JSON; undefined when the text is no list in JSON. @throws Error when it is one of other things. */
export function jsonList(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(list)) return undefined;
  if (!list.every((each) => typeof each === 'string'))
    throw new Error('when using JSON array syntax, arrays must be comprised of strings only');
  return list as string[];
}
