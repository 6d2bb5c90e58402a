/** Runs containers straight by the OCI runtime, without the engine around them: what the spec alone brings about. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ContainerConfig, HostConfig } from '@flotilla/engine-api';
import { engineOptions } from '@flotilla/service-kit';
import { Cgroups } from '../src/cgroups/index.ts';
import { buildRuntimeSpec, detectHost, encodeSpec, type HostFacts, type RuntimeSpecInput, validateCreate } from '../src/spec/index.ts';

export const host: HostFacts = detectHost();
export const cgroups: Cgroups = Cgroups.detect('/flotilla-spec-test');

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A place for bundles and roots of busybox; gone with `remove`. */
export class RuntimeBench {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'flotilla-runtime-'));
  readonly #ids: string[] = [];

  /** A root directory with busybox and the given files. */
  makeRootfs(files: Record<string, string> = {}): string {
    const rootfs = mkdtempSync(join(this.directory, 'rootfs-'));
    chmodSync(rootfs, 0o755);
    for (const name of ['bin', 'sbin', 'dev', 'proc', 'sys', 'etc', 'tmp']) mkdirSync(join(rootfs, name));
    copyFileSync('/bin/busybox', join(rootfs, 'bin/busybox'));
    for (const applet of [
      'sh',
      'cat',
      'id',
      'mount',
      'ls',
      'env',
      'grep',
      'sleep',
      'stat',
      'true',
      'hostname',
      'pwd',
      'touch',
      'ps',
      'chroot',
      'ping',
      'dd',
    ]) {
      symlinkSync('busybox', join(rootfs, 'bin', applet));
    }
    const defaults = {
      'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n',
      'etc/group': 'root:x:0:\nappgroup:x:1001:\nextra:x:2000:app\nadded:x:3000:\n',
    };
    for (const [path, content] of Object.entries({ ...defaults, ...files })) writeFileSync(join(rootfs, path), content);
    return rootfs;
  }

  /** Validates and builds as create and start do, and runs it to its end. */
  async run(
    config: ContainerConfig,
    hostConfig: HostConfig = {},
    more: Partial<RuntimeSpecInput> & { during?: (cgroup: string) => void | Promise<void> } = {},
  ): Promise<Outcome> {
    const id = randomBytes(32).toString('hex');
    this.#ids.push(id);
    const validated = validateCreate(
      { id, config, hostConfig: { NetworkMode: 'none', ...hostConfig } },
      { host, options: engineOptions.parse({}), runtimes: ['crun'], defaultRuntime: 'crun', dataRoot: '/var/lib/flotilla' },
    );
    const cgroupsPath = cgroups.pathFor(id);
    const spec = buildRuntimeSpec({
      id,
      config: validated.config,
      hostConfig: validated.hostConfig,
      rootfs: more.rootfs ?? this.makeRootfs(),
      mounts: [],
      cgroupsPath,
      host,
      ...more,
    });
    const bundle = mkdtempSync(join(this.directory, 'bundle-'));
    writeFileSync(join(bundle, 'config.json'), encodeSpec(spec));
    return this.#runBundle(id, bundle, cgroupsPath, more.during);
  }

  /** crun refuses a hybrid mount that holds a v2 controller, so it does not get to see that side. */
  async #runBundle(id: string, bundle: string, cgroupsPath: string, during?: (cgroup: string) => void | Promise<void>): Promise<Outcome> {
    const script =
      'mount --make-private /sys/fs/cgroup; umount /sys/fs/cgroup/unified 2>/dev/null; exec crun --root "$1" run --bundle "$2" "$3"';
    const child = spawn('unshare', [
      '--mount',
      '--propagation',
      'unchanged',
      'sh',
      '-c',
      script,
      'sh',
      join(this.directory, 'state'),
      bundle,
      id,
    ]);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
    if (during !== undefined) {
      await until(() => stdout.includes('ready'));
      await during(cgroupsPath);
    }
    child.stdin.end();
    return { code: await ended, stdout, stderr };
  }

  remove(): void {
    for (const id of this.#ids) cgroups.group(cgroups.pathFor(id)).remove();
    cgroups.group('/flotilla-spec-test').remove();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Waits for a condition, ten seconds at most. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
