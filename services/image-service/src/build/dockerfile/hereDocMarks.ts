/** `<<EOF`, `<<-"EOF"` among the words of a line. */
import { shellWords } from './words.ts';

export interface HereDocMark {
  readonly name: string;
  readonly expand: boolean;
  /** `<<-`: tabs at the start of lines are not part of it. */
  readonly stripTabs: boolean;
}

export function hereDocMarks(line: string, escapeToken: string): HereDocMark[] {
  return shellWords(line, escapeToken).flatMap((word) => readMark(word) ?? []);
}

/** The mark that a word is, if it is one. */
export function readMark(word: string): HereDocMark | undefined {
  const [, dash, rest = ''] = /^\d*<<(-?)([^<]*)$/.exec(word) ?? [];
  if (dash === undefined || rest === '') return undefined;
  const quoted = /^(["'])(.*)\1$/s.exec(rest);
  const name = quoted?.[2] ?? rest.replace(/["'\\]/g, '');
  return name === '' || /[\s/]/.test(name) ? undefined : { name, expand: name === rest, stripTabs: dash === '-' };
}
