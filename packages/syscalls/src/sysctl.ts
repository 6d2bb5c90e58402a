/** Kernel settings, by their sysctl name, in the network namespace the calling thread is in. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cPath } from './libc.ts';

/**
 * The file of a setting: `net.ipv4.ip_forward` or, where a part holds dots (an interface's name), with slashes: `net/ipv4/conf/eth0.1/forwarding`.
 *
 * @throws Error for a name that would leave /proc/sys.
 */
export function sysctlPath(name: string): string {
  const path = name.includes('/') ? name : name.replaceAll('.', '/');
  if (!/^[\w.:@+-]+(\/[\w.:@+-]+)*$/.test(path) || path.split('/').some((part) => part === '..' || part === '.')) {
    throw new Error(`not a sysctl: ${JSON.stringify(name)}`);
  }
  return cPath(`/proc/sys/${path}`, 'open');
}

export function readSysctl(name: string): string {
  return readFileSync(sysctlPath(name), 'utf8').trim();
}

/** @throws Error ENOENT for an unknown setting, EINVAL for a value the kernel refuses. */
export function writeSysctl(name: string, value: string): void {
  writeFileSync(sysctlPath(name), value, { flag: 'r+' });
}
