/** Every type and option of `--mount`, and `-v`, by what the container sees and may do; what makes no sense is refused in dockerd's words. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const stack = useStack({ ignoreLeaks: [/^file exec\/container-service\/seccomp\//] });
const must = (...args: string[]) => stack.host.mustDocker(...args);
const directory = mkdtempSync(join(tmpdir(), 'flotilla-mounts-'));
const inner = join(directory, 'below');

beforeAll(async () => {
  mkdirSync(inner);
  writeFileSync(join(directory, 'file'), 'content\n');
  // A mount below the source, where recursion shows; in the host's mount namespace as the services see it.
  await stack.host.sh(`mount -t tmpfs inner ${inner} && touch ${inner}/deep`);
});
afterAll(async () => {
  await stack.host.sh(`umount ${inner}`);
  rmSync(directory, { recursive: true, force: true });
});

/** Runs a script of which any line may fail; gives all it printed. */
async function seen(args: readonly string[], script: string): Promise<string> {
  const { code, stdout, stderr } = await stack.host.docker('run', '--rm', ...args, stack.busybox, 'sh', '-c', `exec 2>&1; ${script}; true`);
  expect(code, stderr).toBe(0);
  return stdout.trim();
}

const mountLine = 'grep " /m " /proc/self/mountinfo';

describe('--mount type=bind', () => {
  const bind = (options = ''): string[] => ['--mount', `type=bind,source=${directory},target=/m${options}`];

  it.each([
    ['as it is', bind(), 'cat /m/file; ls /m/below; echo x > /m/written && echo wrote', 'content\ndeep\nwrote'],
    ['readonly', bind(',readonly'), 'touch /m/x; touch /m/below/x', /Read-only file system\n.*Read-only file system/],
    [
      'readonly, bind-recursive=writable',
      bind(',readonly,bind-recursive=writable'),
      'touch /m/x; touch /m/below/x && echo below',
      /^touch: \/m\/x: Read-only file system\nbelow$/,
    ],
    [
      'readonly, bind-recursive=readonly',
      bind(',readonly,bind-recursive=readonly,bind-propagation=rprivate'),
      'touch /m/x; touch /m/below/x',
      /Read-only.*\n.*Read-only/,
    ],
    ['bind-recursive=disabled', bind(',bind-recursive=disabled'), 'ls /m/below | wc -l', '0'],
    ['consistency', bind(',consistency=cached'), 'cat /m/file', 'content'],
    ['bind-propagation=rprivate', bind(',bind-propagation=rprivate'), `${mountLine} | grep -c -E "shared:|master:"`, '0'],
    ['a file', ['--mount', `type=bind,source=${directory}/file,target=/one`], 'cat /one', 'content'],
    ['-v with modes', ['-v', `${directory}:/m:ro,cached`], 'touch /m/x', /Read-only/],
  ] as const)('%s', async (_, args, script, shows) => {
    const output = await seen(args, script);
    if (typeof shows === 'string') expect(output).toBe(shows);
    else expect(output).toMatch(shows);
  });

  it('slave and shared follow what the host mounts', async () => {
    await stack.host.sh(`mkdir -p ${directory}/prop && mount -t tmpfs prop ${directory}/prop && mount --make-shared ${directory}/prop`);
    const source = `type=bind,source=${directory}/prop,target=/m`;
    expect(await seen(['--mount', `${source},bind-propagation=rslave`], mountLine)).toMatch(/ master:\d+ /);
    expect(await seen(['--mount', `${source},bind-propagation=rshared`], mountLine)).toMatch(/ shared:\d+ /);
    await stack.host.sh(`mount --make-private ${directory}/prop`);
    const refused = await stack.host.docker('run', '--rm', '--mount', `${source},bind-propagation=rshared`, stack.busybox);
    expect(refused.stderr).toContain(`path ${directory}/prop is mounted on ${directory}/prop but it is not a shared mount`);
    await stack.host.sh(`umount ${directory}/prop`);
  });

  it('one that shows the engine’s own files holds on to no other container’s', async () => {
    await must('run', '-d', '--name', 'shown', stack.busybox, 'sleep', '600');
    const merged = await must('inspect', '-f', '{{.GraphDriver.Data.MergedDir}}', 'shown');
    await must('run', '-d', '--name', 'watcher', '-v', '/:/host:ro', stack.busybox, 'sleep', '600');
    expect(await must('inspect', '-f', '{{(index .Mounts 0).Propagation}}', 'watcher')).toBe('rslave');
    const seenInside = async (): Promise<boolean> => (await must('exec', 'watcher', 'cat', '/proc/1/mountinfo')).includes(merged);
    expect(await seenInside()).toBe(true);
    await must('rm', '-f', 'shown');
    await waitFor(async () => !(await seenInside()), { what: 'the file system of the removed container to be let go' });
    const kept = await stack.host.docker('run', '--rm', '-v', '/:/host:private', stack.busybox, 'true');
    expect(kept.stderr).toContain('must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root');
    await must('rm', '-f', 'watcher');
  });

  it('-v makes a source that is not there, --mount only when told to', async () => {
    await seen(['-v', `${directory}/made/by/v:/m`], 'true');
    expect(existsSync(`${directory}/made/by/v`)).toBe(true);
    const refused = await stack.host.docker('run', '--rm', '--mount', `type=bind,source=${directory}/no,target=/m`, stack.busybox);
    expect(refused.stderr).toContain(`invalid mount config for type "bind": bind source path does not exist: ${directory}/no`);
    expect(existsSync(`${directory}/no`)).toBe(false);
  });
});

describe('/proc', () => {
  it('is not hidden in part, and whole only by another /proc', async () => {
    for (const [mount, reason] of [
      ['/proc//sys', 'it is inside /proc'],
      ['name:/proc', 'it is not of type proc'],
    ] as const) {
      const refused = await stack.host.docker('run', '--rm', '-v', mount, stack.busybox, 'true');
      expect([refused.code, refused.stderr]).toEqual([125, expect.stringContaining(`cannot be mounted because ${reason}`)]);
    }
    await must('run', '--rm', '--pid', 'host', '-v', '/proc:/proc', '-v', '/proc/uptime:/proc/uptime', stack.busybox, 'true');
  });
});

describe('--mount type=volume', () => {
  it.each([
    ['copies up what the image has', 'source=up,target=/etc', 'grep -c alice /etc/passwd; touch /etc/x && echo wrote', '1\nwrote'],
    ['volume-nocopy', 'source=nocopy,target=/etc,volume-nocopy', 'ls /etc/passwd', /No such file/],
    ['readonly', 'source=up,target=/m,readonly', 'ls /m/x; touch /m/y', /^\/m\/x\n.*Read-only/],
    ['anonymous', 'target=/m', 'touch /m/x && echo wrote', 'wrote'],
    [
      'driver and its options, labels',
      'source=small,target=/m,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=3m,volume-label=a=b',
      'df -k /m | tail -1 | awk "{print \\$2}"',
      '3072',
    ],
  ] as const)('%s', async (_, mount, script, shows) => {
    const output = await seen(['--mount', `type=volume,${mount}`], script);
    if (typeof shows === 'string') expect(output).toBe(shows);
    else expect(output).toMatch(shows);
  });

  it('volume-subpath shows a part, and never what lies outside', async () => {
    expect(await must('volume', 'inspect', '-f', '{{.Labels.a}} {{.Options.o}}', 'small')).toBe('b size=3m');
    await seen(['-v', 'parts:/m'], 'mkdir -p /m/a/b; echo inside > /m/a/b/f; ln -s /etc /m/out; ln -s a /m/in');
    const part = (subpath: string): string[] => ['--mount', `type=volume,source=parts,target=/m,volume-subpath=${subpath}`];
    expect(await seen(part('a/b'), 'cat /m/f')).toBe('inside');
    expect(await seen(part('a/b/f'), 'cat /m')).toBe('inside');
    for (const [subpath, says] of [
      ['nope', 'cannot access path nope: no such file or directory'],
      ['out', 'path concatenation escapes the base directory'],
      ['../x', 'subpath must be a relative path within the volume'],
    ] as const) {
      const refused = await stack.host.docker('run', '--rm', ...part(subpath), stack.busybox, 'ls', '/m');
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toContain(says);
    }
  });

  it('an empty part of a volume gets what the image has there', async () => {
    await seen(['-v', 'partial:/m'], 'mkdir /m/empty /m/other /m/full; echo own > /m/full/f; ln -s empty /m/in; ln -s /etc /m/out');
    const part = (subpath: string): string[] => ['--mount', `type=volume,source=partial,target=/bin,volume-subpath=${subpath}`];
    await must('create', '--name', 'none', ...part('other,volume-nocopy'), stack.busybox);
    for (const subpath of ['in', 'full', 'out', 'missing'])
      await must('create', '--name', `of-${subpath}`, ...part(subpath), stack.busybox);
    expect(await seen(['-v', 'partial:/m'], 'ls /m/other; cat /m/full/*; cmp /m/empty/sh /bin/sh && echo same')).toBe('own\nsame');
    expect(await seen(part('empty'), 'echo runs from it')).toBe('runs from it');
    await must('rm', 'none', 'of-in', 'of-full', 'of-out', 'of-missing');
  });

  it('rm -v takes anonymous volumes that nobody else has, and leaves named ones', async () => {
    await must('create', '--name', 'owner', '-v', '/anonymous', '-v', 'named:/m', stack.busybox);
    await must('create', '--name', 'guest', '--volumes-from', 'owner:ro', stack.busybox);
    const anonymous = await must('inspect', '-f', '{{range .Mounts}}{{if eq .Destination "/anonymous"}}{{.Name}}{{end}}{{end}}', 'owner');
    expect(await must('inspect', '-f', '{{range .Mounts}}{{.RW}} {{end}}', 'guest')).toMatch(/^false false ?$/);
    expect((await stack.host.docker('volume', 'rm', anonymous)).stderr).toContain('volume is in use');
    const volumes = async (): Promise<string[]> => (await must('volume', 'ls', '-q')).split('\n');
    await must('rm', '-v', 'owner');
    expect(await volumes()).toContain(anonymous);
    await must('rm', '-v', 'guest');
    expect(await volumes()).not.toContain(anonymous);
    expect(await volumes()).toContain('named');
  });
});

describe('--mount of the other types', () => {
  it('mount points that the image has not are directories like any other, and so is what an export shows of them', async () => {
    const args = ['-v', '/fresh/deep', '--tmpfs', '/scratch'];
    expect(await must('run', '--name', 'points', ...args, stack.busybox, 'stat', '-c', '%a %n', '/fresh', '/fresh/deep')).toBe(
      '755 /fresh\n755 /fresh/deep',
    );
    const tar = join(directory, 'points.tar');
    await must('export', '-o', tar, 'points');
    const listed = execFileSync('tar', ['-tvf', tar, 'fresh', 'scratch'], { encoding: 'utf8' }).trim().split('\n');
    expect(listed.map((line) => [line.split(' ')[0], line.split(' ').at(-1)])).toEqual([
      ['drwxr-xr-x', 'fresh/'],
      ['drwxr-xr-x', 'fresh/deep/'],
      ['drwxr-xr-x', 'scratch/'],
    ]);
    await must('rm', '-v', 'points');
  });

  it('tmpfs with size, mode and more; a tmpfs covers a volume of the image', async () => {
    const args = ['--mount', 'type=tmpfs,target=/m,tmpfs-size=2m,tmpfs-mode=1770', '--tmpfs', '/t:rw,exec,size=1m', '-v', '/t'];
    const output = await seen(args, 'grep -E " /(m|t) " /proc/mounts; stat -c %a /m');
    expect(output).toMatch(/^tmpfs \/m tmpfs rw,.*noexec.*size=2048k,mode=1770.*$/m);
    expect(output).toMatch(/^tmpfs \/t tmpfs rw,nosuid,nodev,relatime,size=1024k/m);
    expect(output.split('\n')).toHaveLength(3);
    expect(output).toMatch(/\n1770$/);
  });

  it('an image, whole or in part, read-only', async () => {
    const whole = await seen(['--mount', `type=image,source=${stack.busybox},target=/m`], 'ls -d /m/bin/sh; touch /m/x');
    expect(whole).toMatch(/^\/m\/bin\/sh\n.*Read-only/);
    expect(await seen(['--mount', `type=image,source=${stack.busybox},target=/m,image-subpath=bin`], 'ls -d /m/sh')).toBe('/m/sh');
  });

  it.each([
    [{ Type: 'npipe', Source: 'x', Target: '/m' }, 'invalid mount config for type "npipe": mount type unknown'],
    [{ Type: 'bind', Source: 'rel', Target: '/m' }, "invalid mount path: 'rel' mount path must be absolute"],
    [{ Type: 'bind', Source: '/tmp', Target: '/' }, "invalid specification: destination can't be '/'"],
    [{ Type: 'bind', Source: '/tmp', Target: '/m', BindOptions: { Propagation: 'odd' } }, 'invalid propagation mode: odd'],
    [{ Type: 'bind', Source: '/tmp', Target: '/m', BindOptions: { ReadOnlyForceRecursive: true } }, 'requires ReadOnly'],
    [{ Type: 'tmpfs', Source: 'x', Target: '/m' }, 'field Source must not be specified'],
    [{ Type: 'volume', Target: '/m', VolumeOptions: { Subpath: 'x' } }, 'must not set Subpath when using anonymous volumes'],
    [{ Type: 'volume', Target: '/m', BindOptions: {} }, 'BindOptions must not be specified on mount type "volume"'],
    [{ Type: 'image', Source: 'no-such-image', Target: '/m' }, 'No such image: no-such-image:latest'],
  ])('%j is refused', async (mount, says) => {
    const body = { Image: stack.busybox, HostConfig: { Mounts: [mount] } };
    const { status, message } = await engineApi(stack.host, 'POST', '/v1.50/containers/create', { body });
    expect(status).toBe(mount.Type === 'image' ? 404 : 400);
    expect(message).toContain(says);
  });
});
