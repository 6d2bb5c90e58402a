/** The code, bound read-only where users without root reach it: a checkout in /root has a closed door above it. Two versions may be bound while one takes over. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { bindMount, mount, mountFlags, umount, umountFlags } from '@flotilla/syscalls';

function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
}

/** Binds `source` at a name of its own beside `path` unless that is so already; answers where. */
export function mountCode(source: string, path: string): string {
  const target = `${path}.${createHash('sha256').update(source).digest('hex').slice(0, 12)}`;
  // A checkout that was removed and made again has another directory by the same name.
  if (mountPoints().includes(target) && !isSameDirectory(source, target)) umount(target, umountFlags.detach);
  if (!mountPoints().includes(target)) {
    mkdirSync(target, { recursive: true, mode: 0o755 });
    bindMount(source, target);
  }
  // Also where a kill came between the two.
  mount('', target, '', mountFlags.bind | mountFlags.remount | mountFlags.readOnly);
  return target;
}

function isSameDirectory(one: string, other: string): boolean {
  const [a, b] = [statSync(one), statSync(other)];
  return a.dev === b.dev && a.ino === b.ino;
}

/** Takes away every code that is bound at `path` or beside it, but for `kept`. */
export function unmountOtherCode(path: string, kept?: string): void {
  const others = mountPoints().filter((point) => (point === path || point.startsWith(`${path}.`)) && point !== kept);
  for (const target of others) umount(target, umountFlags.detach);
  for (const target of new Set(others)) rmdirSync(target);
}
