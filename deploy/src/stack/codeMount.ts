/** The code, bound read-only where users without root reach it: a checkout in /root has a closed door above it. Two versions may be bound while one takes over. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { bindMount, mount, mountFlags } from '@flotilla/syscalls';

function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
}

/** Binds `source` at a name of its own beside `path` unless that is so already; answers where. */
export function mountCode(source: string, path: string): string {
  const target = `${path}.${createHash('sha256').update(source).digest('hex').slice(0, 12)}`;
  if (mountPoints().includes(target)) return target;
  mkdirSync(target, { recursive: true, mode: 0o755 });
  bindMount(source, target);
  mount('', target, '', mountFlags.bind | mountFlags.remount | mountFlags.readOnly);
  return target;
}

/** Takes away every code that is bound at `path` or beside it, but for `kept`. */
export function unmountOtherCode(path: string, kept?: string): void {
  for (const target of mountPoints().filter((point) => (point === path || point.startsWith(`${path}.`)) && point !== kept)) {
    if (spawnSync('umount', ['--lazy', target]).status === 0) rmdirSync(target);
  }
}
