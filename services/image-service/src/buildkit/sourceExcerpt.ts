/** Lines of a Dockerfile as BuildKit shows them: those that are meant are marked, with some around them. */
import type { Location } from '../build/dockerfile/instructions.ts';
import type { SourceText } from './sourceText.ts';

/** Lines that are shown at least. */
const fewest = 5;
const rule = '--------------------';

export function sourceExcerpt({ filename, lines }: SourceText, { startLine, endLine }: Location): string {
  const { first, last } = around(startLine, endLine, lines.length);
  const shown = lines.slice(first - 1, last).map((line, index) => {
    const number = first + index;
    const mark = number >= startLine && number <= endLine ? '>>>' : '   ';
    return ` ${String(number).padStart(3)} | ${mark} ${line}\n`;
  });
  return `${filename}:${startLine}\n${rule}\n${shown.join('')}${rule}\n`;
}

function around(startLine: number, endLine: number, total: number): { first: number; last: number } {
  let first = startLine;
  let last = Math.min(endLine, total);
  for (let side = 0; last - first + 1 < fewest && (first > 1 || last < total); side++) {
    if (side % 2 === 0) first = Math.max(1, first - 1);
    else last = Math.min(total, last + 1);
  }
  return { first, last };
}
