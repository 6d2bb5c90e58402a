/** Names of the directories of health probes below `execs`: each says who runs it, so that an instance that starts leaves alone those of others. */
import { randomBytes } from 'node:crypto';
import { isAlive, startTimeOf } from './processes.ts';

export function newProbeName(): string {
  return `probe-${process.pid}-${startTimeOf(process.pid)}-${randomBytes(8).toString('hex')}`;
}

/** Whether it is of a probe whose service lives. */
export function isProbeUnderWay(name: string): boolean {
  const [, pid, start = ''] = /^probe-(\d+)-(\d+)-/.exec(name) ?? [];
  return pid !== undefined && isAlive(Number(pid), start);
}
