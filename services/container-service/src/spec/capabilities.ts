/** Linux capabilities: their names, Docker's default set, and what `--cap-add`, `--cap-drop` and `--privileged` make of it. */
import { InvalidParameter } from '@flotilla/errors';

/** By bit number. */
export const capabilityNames: readonly string[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
].map((name) => `CAP_${name}`);

/** What a container has unless told otherwise. */
export const defaultCapabilities: readonly string[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
].map((name) => `CAP_${name}`);

const all = 'ALL';

/** `net_admin` → `CAP_NET_ADMIN`; `all` → `ALL`. @throws InvalidParameter */
export function normaliseCapability(name: string): string {
  const upper = name.toUpperCase();
  if (upper === all) return all;
  const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
  if (!capabilityNames.includes(full)) throw new InvalidParameter(`unknown capability: "${full}"`);
  return full;
}

/** Refuses unknown names, and additions that this machine cannot give. @throws InvalidParameter */
export function checkCapabilities(add: readonly string[], drop: readonly string[], bounding: readonly string[]): void {
  within('invalid CapAdd', () => {
    for (const name of add.map(normaliseCapability)) {
      if (name !== all && !bounding.includes(name)) {
        throw new InvalidParameter(`capability not supported by your kernel or not available in the current environment: "${name}"`);
      }
    }
  });
  within('invalid CapDrop', () => {
    drop.map(normaliseCapability);
  });
}

function within(context: string, check: () => void): void {
  try {
    check();
  } catch (error) {
    throw error instanceof InvalidParameter ? new InvalidParameter(`${context}: ${error.message}`, { cause: error }) : error;
  }
}

/** The capabilities of a container, none outside the bounding set (a runtime refuses those). */
export function containerCapabilities(
  { privileged, add, drop }: { privileged: boolean; add: readonly string[]; drop: readonly string[] },
  bounding: readonly string[],
): string[] {
  if (privileged) return [...bounding];
  const added = add.map(normaliseCapability);
  const dropped = drop.map(normaliseCapability);
  let wanted: string[];
  if (added.includes(all)) wanted = bounding.filter((name) => !dropped.includes(name));
  else if (dropped.includes(all)) wanted = added;
  else wanted = [...defaultCapabilities.filter((name) => !dropped.includes(name)), ...added];
  return [...new Set(wanted)].filter((name) => bounding.includes(name));
}
