/** Links of a process to others, cut as a broken network or a dead peer cuts them: both ends learn of it at once, what was under way is lost. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { closeDescriptor, shutdown, takeDescriptor } from '@flotilla/syscalls';

/** Connected stream sockets of its network namespace: by inode, the path that a unix one was accepted at, if any. */
function connections(pid: number): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of readFileSync(`/proc/${pid}/net/unix`, 'utf8').split('\n').slice(1)) {
    const [, , , , type, state, inode, path = ''] = line.trim().split(/\s+/);
    if (type === '0001' && state === '03' && inode !== undefined) found.set(inode, path);
  }
  for (const line of readFileSync(`/proc/${pid}/net/tcp`, 'utf8').split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/);
    if (fields[3] === '01' && fields[9] !== undefined) found.set(fields[9], '');
  }
  return found;
}

/**
 * Cuts every established connection of a process but those accepted at `sparing`.
 *
 * @returns how many.
 */
export function cutConnections(pid: number, sparing: string): number {
  const known = connections(pid);
  let cut = 0;
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
      const path = inode === undefined ? undefined : known.get(inode);
      if (path === undefined || path === sparing) continue;
      const copy = takeDescriptor(pid, Number(fd));
      try {
        shutdown(copy, 'both');
        cut++;
      } finally {
        closeDescriptor(copy);
      }
    } catch {
      // It was closed while we looked.
    }
  }
  return cut;
}

/** Which of these processes hold the other ends of a client's connections, by what `ss -xpH` lists. */
export function holdersOf(listing: string, client: number, holders: readonly number[]): number[] {
  const sockets = listing.split('\n').map((line) => line.trim().split(/\s+/));
  const of = (pid: number): string[][] => sockets.filter((fields) => fields.at(-1)?.includes(`pid=${pid},`));
  // Netid State Recv-Q Send-Q local inode peer inode users
  const peers = new Set(of(client).map((fields) => fields[7]));
  return holders.filter((pid) => of(pid).some((fields) => peers.has(fields[5])));
}
