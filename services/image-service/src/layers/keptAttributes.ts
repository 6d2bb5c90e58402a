/** What a layer keeps of a file's extended attributes, as dockerd does: capabilities and the users' own. */
import { lgetxattr, llistxattr } from '@flotilla/syscalls';

export function keptAttributes(path: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (const name of llistxattr(path)) {
    if (name !== 'security.capability' && !name.startsWith('user.')) continue;
    if (name.startsWith('user.overlay.')) continue;
    const value = lgetxattr(path, name);
    if (value !== undefined) found.set(name, value);
  }
  return found;
}
