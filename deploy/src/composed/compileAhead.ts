/**
 * Fills the image's cache of compiled code (deploy/Dockerfile), for each user that a process runs as: everything is started once with nothing to go by, and ends
 * when it has been loaded and misses that.
 */
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync } from 'node:fs';
import { type Account, findAccount, root } from '../stack/accounts.ts';
import { codeRoot } from '../stack/paths.ts';
import { nodeCommand } from '../stack/processes.ts';
import { services } from '../stack/services.ts';

const cache = `${codeRoot}/.cache/node`;
mkdirSync(cache, { recursive: true, mode: 0o755 });

function load({ uid, gid }: Account, command: readonly string[], misses: string): void {
  // Node keeps a folder of its own in it for each user.
  chownSync(cache, uid, gid);
  const [program = '', ...args] = command;
  const { stderr, error } = spawnSync(program, args, { uid, gid, cwd: '/', env: { NODE_COMPILE_CACHE: cache }, encoding: 'utf8' });
  if (error !== undefined || !stderr.includes(misses))
    throw new Error(`${command.join(' ')} could not be loaded: ${stderr}`, { cause: error });
}

const accountOf = (name: string | undefined): Account => (name === undefined ? undefined : findAccount(name)) ?? root;
for (const { name, account } of services)
  load(accountOf(account), nodeCommand(codeRoot, `services/${name}/src/main.ts`), 'FLOTILLA_ENGINE_ID');
for (const user of ['root', 'redis', 'nats', ...services.map(({ account }) => account)]) {
  load(accountOf(user), [process.execPath, `${codeRoot}/deploy/src/composed/healthy.ts`, '/nonexistent', 'redis'], 'is not there');
}
chownSync(cache, 0, 0);
