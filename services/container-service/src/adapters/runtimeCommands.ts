/**
 * OCI runtimes as commands that conmon can be given.
 *
 * For each runtime two small scripts stand in exec-root: `<name>.run`, which turns conmon's `create` into `run --detach` (one process instead of
 * two), and `<name>.exec`. Where crun needs a mount namespace of its own (runtimeNamespace.ts) they enter the one that the environment names.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Paths } from '../paths.ts';
import type { OciRuntime } from '../runtime.ts';
import { namespaceVariable } from './conmon.ts';
import { hybridHoldsController } from './runtimeNamespace.ts';

const run = promisify(execFile);

export interface RuntimeChoice {
  readonly path: string;
  readonly runtimeArgs?: readonly string[] | undefined;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Writes a script by rename, so that a conmon that is starting never sees half of one. */
function writeScript(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o755 });
  renameSync(`${path}.new`, path);
}

function kindOf(path: string, version: string): OciRuntime['kind'] {
  if (version.startsWith('crun') || path.endsWith('/crun')) return 'crun';
  if (version.startsWith('runc') || path.endsWith('/runc')) return 'runc';
  return 'other';
}

/** Installs the scripts of one runtime; undefined when its program does not run. */
async function install(name: string, choice: RuntimeChoice, paths: Paths): Promise<OciRuntime | undefined> {
  let version: string;
  try {
    version = (await run(choice.path, ['--version'], { timeout: 10_000 })).stdout;
  } catch {
    return undefined;
  }
  const kind = kindOf(choice.path, version);
  const root = paths.runtimeRoot(name);
  mkdirSync(root, { recursive: true, mode: 0o711 });
  const command = [choice.path, ...(choice.runtimeArgs ?? []), '--root', root].map(quote).join(' ');
  const ownNamespace = kind === 'crun' && hybridHoldsController();
  const enter = ownNamespace ? `exec nsenter --mount="$${namespaceVariable}" -- ${command}` : `exec ${command}`;
  const runCommand = join(paths.runtimes, `${name}.run`);
  const execCommand = join(paths.runtimes, `${name}.exec`);
  writeScript(runCommand, `#!/bin/sh\n[ "$1" = create ] && shift && set -- run --detach "$@"\n${enter} "$@"\n`);
  writeScript(execCommand, `#!/bin/sh\n${enter} "$@"\n`);
  return { name, path: choice.path, args: choice.runtimeArgs ?? [], root, runCommand, execCommand, kind, ownNamespace };
}

/** The runtimes of this machine, by the name that `--runtime` takes. */
export class Runtimes {
  private readonly byName: ReadonlyMap<string, OciRuntime>;
  readonly defaultName: string;

  private constructor(byName: ReadonlyMap<string, OciRuntime>, defaultName: string) {
    this.byName = byName;
    this.defaultName = defaultName;
  }

  /**
   * Finds crun and runc and the runtimes that were added. `runc` is always a name, as dockerd has it: where runc itself is not installed it means crun.
   *
   * @param defaultRuntime - the operator's choice; else crun where it runs, else runc.
   */
  static async detect(paths: Paths, added: Readonly<Record<string, RuntimeChoice>>, defaultRuntime?: string): Promise<Runtimes> {
    mkdirSync(paths.runtimes, { recursive: true, mode: 0o711 });
    const found = new Map<string, OciRuntime>();
    const choices: Record<string, RuntimeChoice> = { crun: { path: 'crun' }, runc: { path: 'runc' }, ...added };
    const installed = await Promise.all(Object.entries(choices).map(([name, choice]) => install(name, choice, paths)));
    for (const runtime of installed) if (runtime !== undefined) found.set(runtime.name, runtime);
    const first = defaultRuntime ?? (found.has('crun') ? 'crun' : 'runc');
    if (!found.has(first)) throw new Error(`no OCI runtime: ${first} does not run; install crun or runc`);
    return new Runtimes(found, first);
  }

  get(name: string): OciRuntime | undefined {
    return this.byName.get(name);
  }

  names(): string[] {
    return [...this.byName.keys()].sort();
  }

  all(): OciRuntime[] {
    return [...this.byName.values()];
  }
}
