/** The figures of a run in Markdown, as they are kept in bench/results. */
import { cpus, loadavg } from 'node:os';
import type { Journal } from './journal.ts';

function quantile(sorted: readonly number[], share: number): number {
  return Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0);
}

/** @param about.otherLoad - the machine's load before anything began: what else ran. */
export function report(journal: Journal, about: { seed: number; commit: string; otherLoad: number }): string {
  const failed = journal.calls.filter((call) => call.error !== undefined);
  const unseen = journal.harms.filter((harm) => journal.seenBy(harm).length === 0);
  const kinds = [...new Set(journal.harms.map((harm) => harm.what))].sort();
  const rows = kinds.map((what) => {
    const harms = journal.harms.filter((harm) => harm.what === what);
    const took = harms.map((harm) => harm.tookMs).sort((a, b) => a - b);
    const seen = harms.filter((harm) => journal.seenBy(harm).length > 0).length;
    return `| ${what} | ${harms.length} | ${harms.length - seen} | ${quantile(took, 0.5)} | ${quantile(took, 1)} |`;
  });
  const errors = new Map<string, number>();
  for (const call of failed) {
    const text = `${call.what}: ${(call.error ?? '')
      .split('\n')
      .filter((line) => line.trim() !== '' && !/^Run '.*--help'/.test(line))
      .at(-1)
      ?.slice(0, 140)
      .replaceAll('|', '\\|')
      .replace(/[0-9a-f]{12,}/g, '…')
      .replace(/-\d+/g, '-N')}`;
    errors.set(text, (errors.get(text) ?? 0) + 1);
  }
  return [
    `# Chaos, commit ${about.commit}, seed ${about.seed}`,
    '',
    `\`FLOTILLA_SOAK=1\` for [fleet.test.ts](../../test/e2e/fleet.test.ts), ${cpus().length} cores, two replicas of every service; docker clients run, exec, cp, pull, build, hold sessions with standard input, change containers, networks and volumes all the time, and \`logs -f\`, \`attach\` and \`events\` listen. One-minute load of the machine before: ${about.otherLoad.toFixed(1)}, at the end: ${(loadavg()[0] ?? 0).toFixed(1)}.`,
    '',
    `- ${journal.calls.length} calls, ${failed.length} of them failed with a clear error`,
    `- ${journal.harms.length} harms, ${unseen.length} (${Math.round((100 * unseen.length) / Math.max(1, journal.harms.length))} %) of which no client saw`,
    `- violations: ${journal.violations.length}`,
    '',
    '| harm | times | not seen | answers again after, ms: p50 | at most |',
    '|---|---|---|---|---|',
    ...rows,
    '',
    '| what clients were told | times |',
    '|---|---|',
    ...[...errors].sort((a, b) => b[1] - a[1]).map(([text, times]) => `| ${text} | ${times} |`),
    '',
    ...journal.violations.map((violation) => `- ${violation}`),
    '',
  ].join('\n');
}
