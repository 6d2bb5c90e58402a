import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lgetxattr, lsetxattr } from '@flotilla/syscalls';
import { busyboxImage } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const run = (...args: string[]) => stack.host.mustDocker('run', '--rm', ...args);

describe('named volumes', () => {
  it('are created, listed, inspected and removed', async () => {
    expect(await stack.host.mustDocker('volume', 'create', '--label', 'a=b', 'first')).toBe('first');
    expect(await stack.host.mustDocker('volume', 'create', 'first')).toBe('first');
    expect(await stack.host.mustDocker('volume', 'ls')).toMatch(/^DRIVER\s+VOLUME NAME\nlocal\s+first$/);
    const [volume] = JSON.parse(await stack.host.mustDocker('volume', 'inspect', 'first'));
    expect(volume).toMatchObject({ Name: 'first', Driver: 'local', Scope: 'local', Labels: { a: 'b' } });
    expect(volume.Mountpoint).toBe(join(stack.host.dataRoot, 'volumes/first/_data'));
    expect(Date.parse(volume.CreatedAt)).toBeGreaterThan(Date.now() - 60_000);
    expect(await stack.host.mustDocker('volume', 'rm', 'first')).toBe('first');
    expect(await stack.host.mustDocker('volume', 'ls', '-q')).toBe('');
    expect(existsSync(join(stack.host.dataRoot, 'volumes/first'))).toBe(false);
  });

  it('get a name of their own when none is given', async () => {
    const name = await stack.host.mustDocker('volume', 'create');
    expect(name).toMatch(/^[0-9a-f]{64}$/);
    await stack.host.mustDocker('volume', 'rm', name);
  });

  it('keep their content from one container to the next', async () => {
    await run('-v', 'kept:/x', stack.busybox, 'sh', '-c', 'echo here > /x/file');
    expect(await run('-v', 'kept:/y:ro', stack.busybox, 'cat', '/y/file')).toBe('here');
    expect((await stack.host.docker('run', '--rm', '-v', 'kept:/y:ro', stack.busybox, 'touch', '/y/other')).stderr).toContain(
      'Read-only file system',
    );
    expect(readFileSync(join(stack.host.dataRoot, 'volumes/kept/_data/file'), 'utf8')).toBe('here\n');
    await stack.host.mustDocker('volume', 'rm', 'kept');
  });

  it('in use are kept', async () => {
    const id = await stack.host.mustDocker('create', '-v', 'used:/x', stack.busybox);
    const refused = await stack.host.docker('volume', 'rm', 'used');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(`remove used: volume is in use - [${id}]`);
    await stack.host.mustDocker('rm', id);
    await stack.host.mustDocker('volume', 'rm', 'used');
  });

  it('that are missing or badly named are told so', async () => {
    expect((await stack.host.docker('volume', 'inspect', 'nosuch')).stderr).toContain('get nosuch: no such volume');
    expect((await stack.host.docker('volume', 'rm', 'nosuch')).stderr).toContain('get nosuch: no such volume');
    expect((await stack.host.docker('volume', 'create', '../x')).stderr).toContain('includes invalid characters for a local volume name');
  });

  it('start with what the image has there', async () => {
    const image = await busyboxImage({
      layers: [
        [
          { path: 'data/', uid: 1000, gid: 1000, mode: 0o750 },
          { path: 'data/seed', content: 'planted', uid: 1000 },
        ],
      ],
    });
    const reference = await stack.push(image, 'volumes/seeded');
    expect(await run('-v', 'seeded:/data', reference, 'sh', '-c', 'cat /data/seed; stat -c " %u %a" /data')).toBe('planted 1000 750');
    await run('-v', 'seeded:/data', reference, 'sh', '-c', 'echo changed > /data/seed');
    expect(await run('-v', 'seeded:/data', reference, 'cat', '/data/seed')).toBe('changed');
    expect(await run('-v', 'unseeded:/data:nocopy', reference, 'ls', '/data')).toBe('');
    await stack.host.mustDocker('volume', 'rm', 'seeded', 'unseeded');
  });
});

describe('anonymous volumes', () => {
  it('come from the image and go with --rm, stay without', async () => {
    const reference = await stack.push(
      await busyboxImage({ config: { Volumes: { '/data': {} }, Cmd: ['touch', '/data/file'] } }),
      'volumes/anonymous',
    );
    await run(reference);
    expect(await stack.host.mustDocker('volume', 'ls', '-q')).toBe('');
    const id = await stack.host.mustDocker('create', reference);
    const [volume] = (await stack.host.mustDocker('volume', 'ls', '-q')).split('\n');
    expect(volume).toMatch(/^[0-9a-f]{64}$/);
    await stack.host.mustDocker('rm', id);
    expect(await stack.host.mustDocker('volume', 'ls', '-q')).toBe(volume);
    await stack.host.mustDocker('volume', 'rm', volume ?? '');
    const other = await stack.host.mustDocker('create', reference);
    await stack.host.mustDocker('rm', '-v', other);
    expect(await stack.host.mustDocker('volume', 'ls', '-q')).toBe('');
  });
});

describe('binds', () => {
  it('show a directory of the host, writable or not', async () => {
    const directory = join(stack.host.filesDirectory, 'bound');
    mkdirSync(directory);
    writeFileSync(join(directory, 'file'), 'from the host');
    expect(await run('-v', `${directory}:/x:ro`, stack.busybox, 'cat', '/x/file')).toBe('from the host');
    expect((await stack.host.docker('run', '--rm', '-v', `${directory}:/x:ro`, stack.busybox, 'touch', '/x/new')).stderr).toContain(
      'Read-only file system',
    );
    await run('-v', `${directory}:/x`, stack.busybox, 'sh', '-c', 'echo back > /x/new');
    expect(readFileSync(join(directory, 'new'), 'utf8')).toBe('back\n');
    expect(await run('-v', `${directory}/file:/one`, stack.busybox, 'cat', '/one')).toBe('from the host');
  });

  it('make the directory when -v names one that is not there, and refuse when --mount does', async () => {
    const missing = join(stack.host.filesDirectory, 'made/for/you');
    await run('-v', `${missing}:/x`, stack.busybox, 'true');
    expect(existsSync(missing)).toBe(true);
    const refused = await stack.host.docker('run', '--rm', '--mount', 'type=bind,src=/no/such/path,dst=/x', stack.busybox, 'true');
    expect(refused.code).toBe(125);
    expect(refused.stderr).toContain('bind source path does not exist: /no/such/path');
  });

  it('are listed in inspect', async () => {
    const id = await stack.host.mustDocker('create', '-v', `${stack.host.filesDirectory}:/x:ro`, '-v', 'listed:/y', stack.busybox);
    const mounts = JSON.parse(await stack.host.mustDocker('inspect', '-f', '{{json .Mounts}}', id)) as { Destination: string }[];
    expect(mounts.sort((a, b) => a.Destination.localeCompare(b.Destination))).toMatchObject([
      { Type: 'bind', Source: stack.host.filesDirectory, Destination: '/x', Mode: 'ro', RW: false },
      { Type: 'volume', Name: 'listed', Destination: '/y', Driver: 'local', RW: true },
    ]);
    await stack.host.mustDocker('rm', id);
    await stack.host.mustDocker('volume', 'rm', 'listed');
  });

  it('reject a bad form', async () => {
    expect((await stack.host.docker('run', '--rm', '-v', '/a:/b:zz', stack.busybox)).stderr).toContain('invalid mode: zz');
    expect((await stack.host.docker('run', '--rm', '-v', '/a:b', stack.busybox)).stderr).toMatch(
      /invalid (volume|mount) .*mount path must be absolute/,
    );
  });
});

describe('tmpfs', () => {
  it('is empty, in memory, and gone after', async () => {
    expect(
      await run(
        '--tmpfs',
        '/scratch:size=1m',
        stack.busybox,
        'sh',
        '-c',
        'mount | grep -c "tmpfs on /scratch"; df -k /scratch | tail -1 | tr -s " " | cut -d " " -f 2',
      ),
    ).toBe('1\n1024');
  });
});

describe('flotilla volume', () => {
  const flotilla = (script: string) =>
    stack.host.run('sh', ['-c', script.replaceAll('flotilla volume', `sh ${join(import.meta.dirname, '../../deploy/flotilla')} volume`)]);
  const place = () => `--exec-root ${stack.host.execRoot}`;
  const archive = () => join(stack.host.filesDirectory, 'volume.tar');

  it('backs a volume up while it is used, and restores owners, attributes, links and holes', async () => {
    const id = await stack.host.mustDocker('run', '-d', '-v', 'source:/x', stack.busybox, 'sleep', '1000');
    const content = join(stack.host.dataRoot, 'volumes/source/_data');
    await stack.host.sh(
      `cd ${content}; mkdir -m 750 dir; echo text > dir/file; chown 1000:1001 dir/file; ln dir/file hard; ln -s /etc/passwd soft; mkfifo pipe; truncate -s 64M sparse; touch -d 2001-02-03T04:05:06Z dir/file`,
    );
    lsetxattr(`${content}/hard`, 'user.colour', Buffer.from('blue'));
    await flotilla(`flotilla volume backup ${place()} source > ${archive()}`);
    const restored = await flotilla(`flotilla volume restore ${place()} target < ${archive()}`);
    expect(restored).toMatchObject({ code: 0, stderr: '' });
    const describe = 'find . -printf "%P %y %m %U %G %T@ %n %l\\n" | sort; du -s sparse | cut -f1';
    const target = join(stack.host.dataRoot, 'volumes/target/_data');
    expect(await stack.host.sh(`cd ${target}; ${describe}`)).toBe(await stack.host.sh(`cd ${content}; ${describe}`));
    expect(lgetxattr(`${target}/hard`, 'user.colour')?.toString()).toBe('blue');
    expect(await run('-v', 'target:/y', stack.busybox, 'cat', '/y/hard')).toBe('text');
    await stack.host.mustDocker('rm', '-f', id);
    await stack.host.mustDocker('volume', 'rm', 'source');
  });

  it('refuses what is in use, not empty, not there or no archive, and leaves all as it was', async () => {
    const refused = async (script: string) => {
      const { code, stderr } = await flotilla(script);
      expect(code).not.toBe(0);
      return stderr;
    };
    expect(await refused(`flotilla volume backup ${place()} nosuch`)).toContain('get nosuch: no such volume');
    expect(await refused(`flotilla volume restore ${place()} target < ${archive()}`)).toContain('restore target: volume is not empty');
    const id = await stack.host.mustDocker('create', '-v', 'target:/x', stack.busybox);
    expect(await refused(`flotilla volume restore ${place()} --replace target < ${archive()}`)).toContain('volume is in use');
    await stack.host.mustDocker('rm', id);
    const before = await stack.host.sh(`find ${join(stack.host.dataRoot, 'volumes/target')}`);
    for (const bad of [`head -c 4096 ${archive()}`, 'echo nonsense', 'true']) {
      expect(await refused(`${bad} | flotilla volume restore ${place()} --replace target`)).toContain('the archive');
      expect(await refused(`${bad} | flotilla volume restore ${place()} fresh`)).toContain('the archive');
    }
    // A reader that leaves ends the backup, and nothing else.
    await flotilla(`flotilla volume backup ${place()} target | head -c 100 > /dev/null`);
    // A link to elsewhere, and a file through it; a name that leads out.
    const work = join(stack.host.filesDirectory, 'hostile');
    await stack.host.sh(`mkdir -p ${work}/outside ${work}/a; cd ${work}; echo evil > a/evil; ln -s ${work}/outside link
      tar -cf through.tar link; rm link; mkdir link; cp a/evil link/evil; tar -rf through.tar link/evil; tar -cPf out.tar --transform 's,a/evil,../../evil,' a/evil`);
    for (const hostile of ['through.tar', 'out.tar']) {
      expect(await refused(`flotilla volume restore ${place()} --replace target < ${work}/${hostile}`)).toContain(
        'the archive cannot be unpacked',
      );
    }
    expect(await stack.host.sh(`ls ${work}/outside`)).toBe('');
    expect(await stack.host.sh(`find ${join(stack.host.dataRoot, 'volumes/target')}`)).toBe(before);
    expect(await stack.host.mustDocker('volume', 'ls', '-q')).toBe('target');
    await flotilla(`flotilla volume restore ${place()} --replace target < ${archive()}`);
    await stack.host.mustDocker('volume', 'rm', 'target');
  });
});
