/** The table and the JSON file of a run. */
import { cpus, release, totalmem } from 'node:os';
import { median } from './statistics.ts';

export interface RowResult {
  readonly row: string;
  readonly unit: string;
  /** Raw figures by engine, in the order they were measured; empty with `failure` set when the engine failed the row. */
  readonly runs: Readonly<Record<string, readonly number[]>>;
  readonly failures: Readonly<Record<string, string>>;
}

export interface Report {
  readonly date: string;
  readonly commit: string;
  readonly command: string;
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryGiB: number; readonly kernel: string };
  readonly engines: Readonly<Record<string, string>>;
  readonly rows: readonly RowResult[];
  /** What one should know to read them. */
  readonly remark?: string;
}

export function describeMachine(): Report['machine'] {
  return { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, memoryGiB: Math.round(totalmem() / 2 ** 30), kernel: release() };
}

/** Times, memory and traffic: less is better. */
const lessIsBetter: readonly string[] = ['ms', 'MiB', 'MB'];

/** How much better the first engine is than another: above 1 is better, whatever the unit. */
export function ratio(unit: string, first: number, other: number): number {
  return lessIsBetter.includes(unit) ? other / first : first / other;
}

/** A Markdown table: a row a figure, a column an engine, and the first engine's ratio to each other. Sizes of a load are columns too, and not compared. */
export function table(report: Report, columns: 'engines' | 'sizes' = 'engines'): string {
  const engines = columns === 'engines' ? Object.keys(report.engines) : [...new Set(report.rows.flatMap(({ runs }) => Object.keys(runs)))];
  const [first = '', ...rest] = engines;
  const others = columns === 'engines' ? rest : [];
  const header = ['row', 'unit', ...engines, ...others.map((other) => `${first} : ${other}`)];
  const lines = [`| ${header.join(' | ')} |`, `|${header.map(() => '---').join('|')}|`];
  for (const row of report.rows) {
    const figure = (engine: string): number => median(row.runs[engine] ?? []);
    const cells = engines.map((engine) => (row.failures[engine] === undefined ? format(figure(engine)) : 'failed'));
    const ratios = others.map((other) => {
      const value = ratio(row.unit, figure(first), figure(other));
      return Number.isFinite(value) ? `${value.toFixed(2)} ×` : '–';
    });
    lines.push(`| ${[row.row, row.unit, ...cells, ...ratios].join(' | ')} |`);
  }
  return lines.join('\n');
}

function format(value: number): string {
  if (Number.isNaN(value)) return '–';
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
