/** Rows as Go's tabwriter aligns them: each column as wide as its longest cell and `gap` blanks. */
export function columns(rows: readonly (readonly string[])[], gap: number): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [index, cell] of row.slice(0, -1).entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length + gap);
  return rows
    .map((row) => `${row.map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0))).join('')}\n`)
    .join('');
}
