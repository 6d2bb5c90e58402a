/**
 * A process that keeps a test host's namespaces alive, and the way into them.
 *
 * The holder owns a network, a mount and a cgroup namespace. Inside, /sys shows that network, /sys/fs/cgroup shows only the host's own
 * cgroups, /run is an empty tmpfs, and the mounts are shared among themselves but not with the machine: what systemd gives a
 * real host, so that `rshared` binds behave. It ends when its stdin closes, so that a killed test run leaves no namespace behind.
 */
import { type ChildProcessWithoutNullStreams, type StdioOptions, spawn } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import type { CgroupTree } from './cgroupTree.ts';
import { type CommandOptions, type CommandResult, finish } from './command.ts';

const cgroupRoot = '/sys/fs/cgroup';

export interface SpawnOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly stdio?: StdioOptions;
  readonly detached?: boolean;
}

export class NamespaceHolder {
  readonly pid: number;
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly cgroups: CgroupTree;

  private constructor(child: ChildProcessWithoutNullStreams, cgroups: CgroupTree) {
    this.child = child;
    this.cgroups = cgroups;
    this.pid = child.pid ?? 0;
  }

  static async start(cgroups: CgroupTree): Promise<NamespaceHolder> {
    const child = spawn('sh', ['-c', outerScript(cgroups)], { stdio: 'pipe' });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('error', reject);
      child.once('exit', (code) =>
        reject(new Error(`the namespaces of a test host could not be made (exit ${code}); root is needed. ${stderr}`)),
      );
    });
    child.unref();
    return new NamespaceHolder(child, cgroups);
  }

  /** Path of the network namespace, for `setns`, `ip link … netns`. */
  get networkNamespace(): string {
    return `/proc/${this.pid}/ns/net`;
  }

  get mountNamespace(): string {
    return `/proc/${this.pid}/ns/mnt`;
  }

  /** The command line that runs a command inside; the process id is the command's own (everything on the way execs). */
  enter(command: string, args: readonly string[], options: { cwd?: string | undefined } = {}): { command: string; args: string[] } {
    const join = this.cgroups.directories.map((directory) => `echo $$ > ${directory}/machine/cgroup.procs;`).join(' ');
    const nsenter = ['-t', String(this.pid), '--net', '--mount', '--cgroup', `--wdns=${options.cwd ?? '/'}`, '--', command, ...args];
    return { command: 'sh', args: ['-c', `${join} exec nsenter "$@"`, 'sh', ...nsenter] };
  }

  spawn(command: string, args: readonly string[], options: SpawnOptions = {}): ReturnType<typeof spawn> {
    const entered = this.enter(command, args, options);
    return spawn(entered.command, entered.args, {
      env: options.env ?? process.env,
      stdio: options.stdio ?? 'pipe',
      detached: options.detached ?? false,
    });
  }

  async run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const entered = this.enter(command, args, options);
    const child = spawn(entered.command, entered.args, { env: options.env ?? process.env, stdio: 'pipe' });
    return finish(child, [command, ...args].join(' '), options);
  }

  /** Lets the namespaces go. The caller ends what runs inside. */
  release(): void {
    this.child.stdin.destroy();
    this.child.kill('SIGKILL');
  }
}

/** Goes into the cgroups first, so that they become the root of the new cgroup namespace, then into the namespaces. */
function outerScript(cgroups: CgroupTree): string {
  const joins = cgroups.directories.map((directory) => `echo $$ > ${directory}/cgroup.procs`);
  return ['set -e', ...joins, `exec unshare --net --mount --cgroup --propagation private sh -c ${quote(innerScript(cgroups))}`].join('\n');
}

function innerScript(cgroups: CgroupTree): string {
  const joins = cgroups.directories.map((directory) => `echo $$ > ${directory}/machine/cgroup.procs`);
  return [
    'set -e',
    ...joins,
    ...freshSysfs(),
    ...privateRun(),
    'mount --make-rshared /',
    'ip link set lo up',
    'echo ready',
    'cat > /dev/null',
    // The test run is gone without disposing: nothing of the host may outlive it.
    `exec sh -c ${quote(`for round in 1 2 3; do for file in $(find ${cgroupRoot} -name cgroup.procs 2>/dev/null); do for pid in $(cat $file); do [ "$pid" = $$ ] || kill -9 $pid; done; done; done 2>/dev/null; true`)}`,
  ].join('\n');
}

/** A sysfs shows the network namespace it was mounted in; the cgroup mounts below it are made again, rooted at our namespace. */
function freshSysfs(): string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => ({ target: line.split(' ')[4] ?? '', filesystem: line.split(' - ')[1]?.split(' ') ?? [] }))
    .filter((mount) => mount.target.startsWith(cgroupRoot));
  const lines = ['umount -R -l /sys', 'mount -t sysfs sysfs /sys'];
  if (mounts.some((mount) => mount.target === cgroupRoot && mount.filesystem[0] === 'tmpfs')) {
    lines.push(`mount -t tmpfs -o mode=755 tmpfs ${cgroupRoot}`);
  }
  for (const { target, filesystem } of mounts) {
    const [type, , options = ''] = filesystem;
    if (type === 'cgroup2') lines.push(`mkdir -p ${target}`, `mount -t cgroup2 cgroup2 ${target}`);
    if (type === 'cgroup') lines.push(`mkdir -p ${target}`, `mount -t cgroup -o ${controllers(options)} cgroup ${target}`);
  }
  for (const entry of readdirSync(cgroupRoot)) {
    const path = `${cgroupRoot}/${entry}`;
    if (lstatSync(path).isSymbolicLink()) lines.push(`ln -s ${readlinkSync(path)} ${path}`);
  }
  return lines;
}

function controllers(superOptions: string): string {
  const names = superOptions
    .split(',')
    .filter((name) => !['rw', 'ro', 'xattr', 'clone_children'].includes(name) && !name.startsWith('release_agent'));
  return names.some((name) => name.startsWith('name=')) ? `none,${names.join(',')}` : names.join(',');
}

/** /run of its own, so that default sockets and `/run/netns` of a stack are its own too. A resolv.conf that lived there is kept. */
function privateRun(): string[] {
  const lines = ['mount -t tmpfs -o mode=755 tmpfs /run', 'mkdir -p /run/lock /run/netns'];
  let resolvConf: string;
  try {
    resolvConf = realpathSync('/etc/resolv.conf');
  } catch {
    return lines;
  }
  if (resolvConf.startsWith('/run/')) {
    const content = readFileSync(resolvConf, 'utf8');
    lines.push(`mkdir -p ${resolvConf.replace(/\/[^/]*$/, '')}`, `printf %s ${quote(content)} > ${resolvConf}`);
  }
  return lines;
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
