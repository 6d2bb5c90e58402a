/** Git repositories as contexts and as sources of ADD: `https://host/repository.git#reference:folder`. Nothing of a repository is ever run. */
import { spawn } from 'node:child_process';
import { lstatSync, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import { cleanPath, resolveInRoot } from '../copy/paths.ts';

export interface GitSource {
  readonly repository: string;
  /** A branch, tag or commit; empty: the repository's own. */
  readonly reference: string;
  /** Empty: all of it. */
  readonly folder: string;
}

const maxOutput = 4096;

/** What a remote names when it is a git repository. */
export function parseGitSource(remote: string): GitSource | undefined {
  const hash = remote.indexOf('#');
  const address = hash < 0 ? remote : remote.slice(0, hash);
  const [reference = '', folder = ''] = (hash < 0 ? '' : remote.slice(hash + 1)).split(':', 2);
  const isGit =
    /^git:\/\//.test(address) || /^git@[\w.-]+:/.test(address) || /^ssh:\/\//.test(address) || /^https?:\/\/.+\.git$/.test(address);
  if (isGit) return { repository: address, reference, folder };
  if (/^github\.com\/[^/]+\/[^/]+$/.test(address)) return { repository: `https://${address}`, reference, folder };
  return undefined;
}

/** Clones into an empty directory. @param options.checksum - how the commit begins. @returns the folder that was asked for. @throws InvalidParameter with git's own words. */
export async function cloneRepository(
  { repository, reference, folder }: GitSource,
  work: string,
  options: { readonly keepGitDirectory: boolean; readonly checksum?: string; readonly signal: AbortSignal },
): Promise<string> {
  if (reference.startsWith('-') || repository.startsWith('-')) throw new InvalidParameter(`invalid git reference: ${reference}`);
  const root = join(work, 'repository');
  mkdirSync(root);
  const git = (...args: string[]): Promise<string> => runGit(root, work, args, options.signal);
  await git('init', '--quiet');
  await git('remote', 'add', 'origin', '--', repository);
  const wanted = reference === '' ? 'HEAD' : reference;
  try {
    await git('fetch', '--quiet', '--depth', '1', 'origin', '--', wanted);
    await git('checkout', '--quiet', 'FETCH_HEAD');
  } catch (error) {
    options.signal.throwIfAborted();
    // A commit, or a server that gives no depth.
    try {
      await git('fetch', '--quiet', '--tags', 'origin', '--', 'HEAD', '+refs/heads/*:refs/remotes/origin/*');
      await git('checkout', '--quiet', reference === '' ? 'FETCH_HEAD' : reference, '--');
    } catch {
      throw error;
    }
  }
  if (options.checksum !== undefined) {
    const commit = (await git('rev-parse', 'HEAD')).trim();
    if (!commit.startsWith(options.checksum)) throw new InvalidParameter(`expected checksum to match ${options.checksum}, got ${commit}`);
  }
  await git('submodule', 'update', '--quiet', '--init', '--recursive', '--depth=1');
  if (!options.keepGitDirectory) await rm(join(root, '.git'), { recursive: true, force: true });
  const found = resolveInRoot(root, cleanPath(folder));
  if (lstatSync(found, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new InvalidParameter(`error setting git context, not within git root: ${folder}`);
  }
  return found;
}

/** @returns what it prints. */
function runGit(directory: string, home: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  const settings = ['protocol.ext.allow=never', 'protocol.file.allow=never', 'core.hooksPath=/dev/null', 'core.symlinks=true', 'gc.auto=0'];
  return new Promise((resolve, reject) => {
    const child = spawn('git', [...settings.flatMap((setting) => ['-c', setting]), ...args], {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
      env: {
        PATH: process.env.PATH,
        HOME: home,
        GIT_TERMINAL_PROMPT: '0',
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_SSH_COMMAND: 'ssh -o BatchMode=yes',
        GIT_ASKPASS: '/bin/false',
        ...proxies(),
      },
    });
    let printed = '';
    child.stdout.on('data', (chunk: Buffer) => {
      printed = (printed + chunk.toString('utf8')).slice(-maxOutput);
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-maxOutput);
    });
    child.on('error', (error) => reject(signal.aborted ? signal.reason : error));
    child.on('close', (code) => {
      if (code === 0) resolve(printed);
      else if (signal.aborted) reject(signal.reason);
      else reject(new InvalidParameter(`error initializing git repository: failed to ${args[0]}: ${said.trim()}`));
    });
  });
}

function proxies(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => /^(https?|no|all)_proxy$|^ssl_cert_(file|dir)$/i.test(name)));
}
