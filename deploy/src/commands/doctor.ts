/** `flotilla doctor`: what is missing, and how to mend it. Exit code 1 when Flotilla cannot work as things are. */
import { InvalidParameter } from '@flotilla/errors/classes';
import { checkContent } from '../doctor/content.ts';
import type { Finding } from '../doctor/finding.ts';
import { checkDisk, checkKernel } from '../doctor/kernel.ts';
import { checkAccounts, checkInit, checkPrograms } from '../doctor/programs.ts';
import { checkRecords } from '../doctor/records.ts';
import { checkStack } from '../doctor/stack.ts';
import type { Roots } from '../stack/paths.ts';

export interface DoctorOptions {
  readonly json: boolean;
  /** Reads all that image-service keeps, instead of looking at the machine. */
  readonly disk: boolean;
  /** Mends what of that can be mended. */
  readonly repair: boolean;
}

export async function doctor(roots: Roots, { json, disk, repair }: DoctorOptions): Promise<void> {
  if (repair && !disk) throw new InvalidParameter('--repair goes with --disk');
  const findings = disk ? await checkContent(roots, repair) : await checkMachine(roots);
  process.stdout.write(json ? `${JSON.stringify(findings, null, 2)}\n` : formatFindings(findings));
  if (findings.some((finding) => finding.state === 'missing')) process.exitCode = 1;
}

async function checkMachine(roots: Roots): Promise<Finding[]> {
  return [
    ...checkKernel(),
    checkDisk(roots),
    ...checkPrograms(),
    checkInit(),
    ...checkAccounts(),
    ...(await checkStack(roots)),
    ...checkRecords(roots),
  ];
}

export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map((finding) => finding.what.length));
  const signs = { ok: 'ok     ', warning: 'warning', missing: 'MISSING' } as const;
  const lines = findings.map((finding) => {
    const line = `${signs[finding.state]}  ${finding.what.padEnd(width)}  ${finding.detail}`.trimEnd();
    return finding.mend === '' ? line : `${line}\n${' '.repeat(9)}${' '.repeat(width)}  → ${finding.mend}`;
  });
  const count = (state: Finding['state']): number => findings.filter((finding) => finding.state === state).length;
  return `${lines.join('\n')}\n${count('ok')} in order, ${count('warning')} to look at, ${count('missing')} missing\n`;
}
