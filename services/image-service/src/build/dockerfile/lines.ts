/** A Dockerfile's text as logical lines: directives, comments, continuation, here-documents. */
import { InvalidParameter } from '@flotilla/errors';
import { type HereDocMark, hereDocMarks } from './hereDocMarks.ts';
import type { HereDoc, Location, ReadWarning } from './instructions.ts';

export interface Directives {
  readonly escapeToken: string;
  readonly syntax?: string;
  readonly check?: string;
}

export interface LogicalLine {
  readonly text: string;
  readonly location: Location;
  readonly hereDocs: readonly HereDoc[];
  /** The lines of comment right above it, without their marks. */
  readonly comments: readonly string[];
}

const directivePattern = /^#[ \t]*([a-zA-Z][a-zA-Z0-9]{0,63})[ \t]*=(.*)$/;
const known = new Set(['escape', 'syntax', 'check']);
const maxLines = 100_000;
const maxDirectiveLength = 1024;

/** @throws InvalidParameter for a directive that is wrong or said twice. */
export function readDirectives(lines: readonly string[]): Directives {
  const found = new Map<string, string>();
  for (const [index, line] of lines.entries()) {
    const [, name = '', after = ''] = line.length > maxDirectiveLength ? [] : (directivePattern.exec(line) ?? []);
    const key = name.toLowerCase();
    const value = after.trim();
    if (!known.has(key) || value === '') break;
    if (found.has(key))
      throw new InvalidParameter(`dockerfile parse error on line ${index + 1}: only one ${key} parser directive can be used`);
    found.set(key, value);
  }
  const escapeToken = found.get('escape') ?? '\\';
  if (escapeToken !== '\\' && escapeToken !== '`')
    throw new InvalidParameter(`invalid ESCAPE token '${escapeToken}' does not match \` or \\`);
  const syntax = found.get('syntax');
  const check = found.get('check');
  return { escapeToken, ...(syntax === undefined ? {} : { syntax }), ...(check === undefined ? {} : { check }) };
}

/** The physical lines of a text, without their ends. */
export function physicalLines(text: string): string[] {
  const lines = text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .map((line) => line.replace(/\r$/, ''));
  if (lines.at(-1) === '') lines.pop();
  if (lines.length > maxLines) throw new InvalidParameter(`Dockerfile has more than ${maxLines} lines`);
  return lines;
}

/** @throws InvalidParameter for a here-document without an end. */
export function logicalLines(lines: readonly string[], escapeToken: string, warnings: ReadWarning[]): LogicalLine[] {
  return new LineReader(lines, escapeToken, warnings).read();
}

const isDirective = /^#[ \t]*(?:escape|syntax|check)[ \t]*=/i;
const isComment = (line: string): boolean => /^\s*#/.test(line);

class LineReader {
  private readonly lines: readonly string[];
  private readonly escapeToken: string;
  private readonly warnings: ReadWarning[];
  private at = 0;

  constructor(lines: readonly string[], escapeToken: string, warnings: ReadWarning[]) {
    this.lines = lines;
    this.escapeToken = escapeToken;
    this.warnings = warnings;
  }

  read(): LogicalLine[] {
    const found: LogicalLine[] = [];
    let comments: string[] = [];
    while (this.at < this.lines.length) {
      const startLine = this.at + 1;
      const first = this.lines[this.at] ?? '';
      const text = this.joined();
      if (text === '') {
        const comment = isComment(first) && !isDirective.test(first) ? first.trim().slice(1).trim() : '';
        if (comment === '') comments = [];
        else comments.push(comment);
        continue;
      }
      const hereDocs = canHold(text) ? hereDocMarks(text, this.escapeToken).map((mark) => this.document(mark, startLine)) : [];
      found.push({ text, location: { startLine, endLine: this.at }, hereDocs, comments });
      comments = [];
    }
    return found;
  }

  /** One logical line, without comments; empty when there is none here. */
  private joined(): string {
    const first = this.lines[this.at++] ?? '';
    if (isComment(first)) return '';
    let { text, more } = this.part(first.trimStart());
    let hadEmpty = false;
    const parts = [text];
    while (more && this.at < this.lines.length) {
      const line = this.lines[this.at++] ?? '';
      if (isComment(line)) continue;
      if (line.trim() === '') {
        hadEmpty = true;
        continue;
      }
      ({ text, more } = this.part(line));
      parts.push(text);
    }
    const whole = parts.join('').trim();
    if (hadEmpty) {
      const text = `[WARNING]: Empty continuation line found in:\n    ${whole}\n[WARNING]: Empty continuation lines will become errors in a future release.\n`;
      this.warnings.push({ text, line: this.at });
    }
    return whole;
  }

  /** A line that ends in one escape character goes on in the next. */
  private part(line: string): { text: string; more: boolean } {
    const end = line.trimEnd();
    const goesOn = end.endsWith(this.escapeToken) && !end.endsWith(this.escapeToken.repeat(2));
    return goesOn ? { text: end.slice(0, -1), more: true } : { text: line, more: false };
  }

  private document({ name, expand, stripTabs }: HereDocMark, startLine: number): HereDoc {
    const content: string[] = [];
    while (this.at < this.lines.length) {
      const raw = this.lines[this.at++] ?? '';
      const line = stripTabs ? raw.replace(/^\t+/, '') : raw;
      if (line === name) return { name, expand, content: content.map((each) => `${each}\n`).join('') };
      content.push(line);
    }
    throw new InvalidParameter(`dockerfile parse error on line ${startLine}: unterminated heredoc`);
  }
}

/** Whether an instruction may hold here-documents. */
function canHold(text: string): boolean {
  return text.includes('<<') && /^(?:onbuild\s+)?(?:run|copy|add)\s/i.test(text);
}
