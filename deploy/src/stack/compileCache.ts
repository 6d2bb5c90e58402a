/**
 * Where Node keeps compiled code, so that a service starts in half the CPU time and without loading the TypeScript stripper (28 MB less). One directory a user:
 * nobody runs code that a user with fewer rights could have written. Beside the checkout, shared by all its stacks; in the data root where that is read-only.
 */
import type { Account } from './accounts.ts';
import { canReach, own } from './directories.ts';
import { codeRoot, type StackPaths } from './paths.ts';

export function openCompileCache(account: Account, paths: StackPaths): string {
  const name = account.uid === 0 ? 'root' : account.name;
  try {
    for (const parent of [`${codeRoot}/.cache`, `${codeRoot}/.cache/node`]) own(parent, 0o755, 0, 0);
    const directory = `${codeRoot}/.cache/node/${name}`;
    own(directory, 0o700, account.uid, account.gid);
    if (canReach(directory, account)) return directory;
  } catch {
    // A read-only checkout.
  }
  const directory = `${paths.dataRoot}/compile-cache/${name}`;
  own(`${paths.dataRoot}/compile-cache`, 0o711, 0, 0);
  own(directory, 0o700, account.uid, account.gid);
  return directory;
}
