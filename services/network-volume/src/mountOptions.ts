/** The `o` option of a volume (what mount(8) takes after -o) as flags and data of mount(2). Pure. */
import { mountFlags } from '@flotilla/syscalls';

export interface MountArguments {
  readonly flags: number;
  readonly data: string;
}

const words: Readonly<Record<string, { readonly flag: number; readonly clear?: boolean }>> = {
  ro: { flag: mountFlags.readOnly },
  rw: { flag: mountFlags.readOnly, clear: true },
  nosuid: { flag: mountFlags.noSuid },
  suid: { flag: mountFlags.noSuid, clear: true },
  nodev: { flag: mountFlags.noDev },
  dev: { flag: mountFlags.noDev, clear: true },
  noexec: { flag: mountFlags.noExec },
  exec: { flag: mountFlags.noExec, clear: true },
  sync: { flag: mountFlags.synchronous },
  async: { flag: mountFlags.synchronous, clear: true },
  dirsync: { flag: mountFlags.dirSync },
  noatime: { flag: mountFlags.noAtime },
  atime: { flag: mountFlags.noAtime, clear: true },
  nodiratime: { flag: mountFlags.noDirAtime },
  relatime: { flag: mountFlags.relatime },
  strictatime: { flag: mountFlags.strictAtime },
  bind: { flag: mountFlags.bind },
  rbind: { flag: mountFlags.bind | mountFlags.recursive },
  defaults: { flag: 0 },
};

export function mountArguments(options: string): MountArguments {
  let flags = 0;
  const data: string[] = [];
  for (const word of options.split(',')) {
    if (word === '') continue;
    const known = Object.hasOwn(words, word) ? words[word] : undefined;
    if (known === undefined) data.push(word);
    else if (known.clear === true) flags &= ~known.flag;
    else flags |= known.flag;
  }
  return { flags, data: data.join(',') };
}
