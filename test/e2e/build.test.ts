/** `docker build` by the classic API: the Dockerfile language, the cache, contexts, output, and what is left when it fails or is cut. */
import { spawn } from 'node:child_process';
import { chmodSync, linkSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buildImage, buildIndex, type CommandResult, waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
let count = 0;

/** A context of these files; values are contents. */
function context(files: Readonly<Record<string, string>>): string {
  const folder = join(stack.host.filesDirectory, `context-${++count}`);
  for (const [path, content] of Object.entries({ Dockerfile: '', ...files })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content.replaceAll('BUSYBOX', stack.busybox));
  }
  return folder;
}

const classic = { DOCKER_BUILDKIT: '0' };

function buildIn(cwd: string, ...args: string[]): Promise<CommandResult> {
  return stack.host.dockerWith({ cwd, env: classic }, 'build', ...args, '.');
}

async function mustBuild(cwd: string, ...args: string[]): Promise<string> {
  const result = await buildIn(cwd, ...args);
  if (result.code !== 0) throw new Error(`build: ${result.stdout}${result.stderr}`);
  return result.stdout;
}

async function run(image: string, ...command: string[]): Promise<string> {
  return stack.host.mustDocker('run', '--rm', '--network', 'none', image, ...command);
}

async function config(image: string): Promise<Record<string, unknown>> {
  return JSON.parse(await stack.host.mustDocker('image', 'inspect', '--format', '{{json .Config}}', image));
}

describe('a build', () => {
  it('says each step, and uses the cache the second time', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nCOPY a /\nRUN echo one; echo two >&2\nCMD ["cat", "/a"]\n', a: 'content\n' });
    const first = await mustBuild(folder, '-t', 'steps:1', '-t', 'steps:2');
    expect(first).toMatch(/Step 1\/4 : FROM \S+\n ---> [0-9a-f]{12}\nStep 2\/4 : COPY a \/\n ---> [0-9a-f]{12}\n/);
    expect(first).toMatch(/Step 3\/4 : RUN echo one; echo two >&2\n ---> Running in [0-9a-f]{12}\n(?:one\n.*two|.*two.*\n?one)/s);
    expect(first).toMatch(/ ---> Removed intermediate container [0-9a-f]{12}\n/);
    expect(first).toMatch(/Successfully built [0-9a-f]{12}\nSuccessfully tagged steps:1\nSuccessfully tagged steps:2\n$/);
    utimesSync(join(folder, 'a'), 1, 1);
    const second = await mustBuild(folder, '-t', 'steps:1');
    expect(second.match(/ ---> Using cache\n/g)).toHaveLength(3);
    expect(await run('steps:1')).toBe('content');
    writeFileSync(join(folder, 'a'), 'other\n');
    expect((await mustBuild(folder, '-t', 'steps:1')).match(/ ---> Using cache\n/g)).toBeNull();
    expect((await mustBuild(folder, '--no-cache')).includes('Using cache')).toBe(false);
    expect(await stack.host.mustDocker('ps', '-aq')).toBe('');
  });

  it('keeps its images from a prune that runs beside it', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN echo first > /first\nRUN sleep 2\nRUN cat /first\n' });
    const building = mustBuild(folder, '--no-cache', '-t', 'pruned-beside');
    await waitFor(async () => (await stack.host.mustDocker('ps', '-q')) !== '', { what: 'a step to run' });
    for (let i = 0; i < 10; i++) await stack.host.mustDocker('image', 'prune', '-f');
    expect(await building).toContain('first\n');
  });

  it('is quiet with -q, and writes the id to a file', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nLABEL quiet=1\n' });
    const file = join(stack.host.filesDirectory, 'iid');
    const out = await mustBuild(folder, '-q');
    expect(out).toMatch(/^sha256:[0-9a-f]{64}\n$/);
    await mustBuild(folder, '--iidfile', file);
    expect((await stack.host.sh(`cat ${file}`)).trim()).toBe(out.trim());
  });

  it('sets all that configuration has', async () => {
    const folder = context({
      Dockerfile: `FROM BUSYBOX
MAINTAINER someone
ARG V=1.0
ENV A=$V B="x y" C=\${D:-none} PATH2=$PATH
LABEL a=b "c d"=e
EXPOSE 80 90/udp 100-101
VOLUME /data
USER 1000:1000
WORKDIR /one
WORKDIR two
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --retries=2 CMD true
SHELL ["/bin/ash", "-c"]
ONBUILD RUN echo triggered
ENTRYPOINT ["echo"]
CMD hello $A
`,
    });
    await mustBuild(folder, '-t', 'config', '--build-arg', 'V=2.0', '--label', 'extra=label');
    expect(await config('config')).toMatchObject({
      Env: expect.arrayContaining(['A=2.0', 'B=x y', 'C=none']),
      Labels: { a: 'b', 'c d': 'e', extra: 'label' },
      ExposedPorts: { '80/tcp': {}, '90/udp': {}, '100/tcp': {}, '101/tcp': {} },
      Volumes: { '/data': {} },
      User: '1000:1000',
      WorkingDir: '/one/two',
      StopSignal: 'SIGUSR1',
      Healthcheck: { Test: ['CMD-SHELL', 'true'], Interval: 5e9, Retries: 2 },
      Shell: ['/bin/ash', '-c'],
      OnBuild: ['RUN echo triggered'],
      Entrypoint: ['echo'],
      Cmd: ['/bin/ash', '-c', 'hello $A'],
    });
    expect(await stack.host.mustDocker('image', 'inspect', '--format', '{{.Author}}', 'config')).toBe('someone');
    const child = context({ Dockerfile: 'FROM config\n' });
    expect(await mustBuild(child)).toMatch(/# Executing 1 build trigger\n.*triggered/s);
  });

  it('has stages: only those needed, by name and number, to a target, and from images', async () => {
    const folder = context({
      Dockerfile: `ARG BASE=BUSYBOX
FROM $BASE AS one
RUN echo one > /one
FROM $BASE AS never
RUN false
FROM one AS two
RUN echo two > /two
FROM scratch AS bare
COPY --from=two /one /two /
FROM $BASE AS last
COPY --from=0 /one /from-number
COPY --from=bare / /bare/
COPY --from=BUSYBOX /bin/busybox /copied-busybox
RUN cat /from-number /bare/two
`,
    });
    const out = await mustBuild(folder, '-t', 'staged');
    expect(out).toContain('one\ntwo\n');
    expect(out).not.toContain('RUN false');
    expect(await run('staged', 'ls', '/bare')).toBe('one\ntwo');
    await mustBuild(folder, '-t', 'target', '--target', 'two');
    expect(await run('target', 'cat', '/one', '/two')).toBe('one\ntwo');
    expect((await buildIn(folder, '--target', 'absent')).stderr).toContain('target stage "absent" could not be found');
  });
});

describe('--platform', () => {
  it('takes that entry of an index for the base, and says so of what is built', async () => {
    const [mine, other] = [
      await buildImage({ layers: [[{ path: 'whose', content: 'mine' }]], format: 'oci' }),
      await buildImage({ layers: [[{ path: 'whose', content: 'other' }]], format: 'oci', architecture: 's390x' }),
    ];
    const base = await stack.push(buildIndex([mine, other]), 'build/index');
    const folder = context({ Dockerfile: `FROM ${base}\nCOPY file /\n`, file: 'x' });
    const build = async (...args: string[]): Promise<string> => {
      await mustBuild(folder, '-t', 'of-platform', ...args);
      return stack.host.mustDocker('image', 'inspect', '--format', '{{.Os}}/{{.Architecture}} {{index .RootFS.Layers 0}}', 'of-platform');
    };
    expect(await build('--platform', 'linux/s390x')).toBe(`linux/s390x ${other.layers[0]?.diffId}`);
    expect(await build('--platform', 'linux/amd64')).toBe(`linux/amd64 ${mine.layers[0]?.diffId}`);
    const failed = await buildIn(folder, '--platform', 'linux/riscv64', '--no-cache');
    expect([failed.code, failed.stderr]).toEqual([
      1,
      expect.stringContaining('no matching manifest for linux/riscv64 in the manifest list entries'),
    ]);
    await stack.host.mustDocker('rmi', '-f', 'of-platform', base);
  });
});

describe('names', () => {
  it('of 255 bytes, in any script and in deep folders pass through builds, commits and archives', async () => {
    const names = [
      'n'.repeat(255),
      'ä'.repeat(127),
      '猫'.repeat(85),
      '🐳 🐋',
      "it's $HOME",
      `${'deep/'.repeat(60)}file`,
      `${'長い/'.repeat(40)}終わり`,
    ];
    const folder = context(Object.fromEntries(names.map((name) => [`files/${name}`, 'x'])));
    writeFileSync(join(folder, 'Dockerfile'), `FROM ${stack.busybox}\nCOPY files /files/\n`);
    await mustBuild(folder, '-t', 'named:built');
    await stack.host.mustDocker('run', '--name', 'namer', 'named:built', 'sh', '-c', 'cp -r /files /again && rm -r /files');
    await stack.host.mustDocker('commit', 'namer', 'named:committed');
    await stack.host.mustDocker('rm', 'namer');
    const archive = join(stack.host.filesDirectory, 'named.tar');
    await stack.host.mustDocker('save', '-o', archive, 'named:committed');
    await stack.host.mustDocker('rmi', 'named:committed', 'named:built');
    await stack.host.mustDocker('builder', 'prune', '-af');
    await stack.host.mustDocker('load', '-q', '-i', archive);
    expect((await run('named:committed', 'sh', '-c', 'find /again -type f; ls -d /files 2>/dev/null; true')).split('\n').sort()).toEqual(
      names.map((name) => `/again/${name}`).sort(),
    );
    rmSync(archive);
    await stack.host.mustDocker('rmi', 'named:committed');
  });
});

describe('COPY and ADD', () => {
  it('keep modes, links and times; owners are root or what is asked for', async () => {
    const folder = context({
      Dockerfile: `FROM BUSYBOX
RUN mkdir -p /etc && echo 'ada:x:1234:1234::/:/bin/sh' >> /etc/passwd && echo 'ada:x:1234:' >> /etc/group
COPY tree /tree
COPY --chown=ada:ada --chmod=640 a.txt /owned/
COPY *.txt deep/?.md /many/
COPY --parents deep/x.md /parents/
COPY --exclude=*.md deep /excluded/
ADD archive.tar.gz /unpacked/
COPY archive.tar.gz /packed/
COPY <<EOF <<"RAW" /inline/
value $PATH
EOF
value $PATH
RAW
RUN mkdir -p /app/deep && echo old > /app/deep/old && chmod 711 /app
RUN rm -r /app/deep
COPY whole /app
RUN stat -c '%n %a %h' /app /tree/hard && find /app | sort
RUN stat -c '%n %a %u:%g' /tree/run.sh /owned/a.txt && readlink /tree/link && find /many /parents /excluded /unpacked /packed /inline -type f | sort
`,
      'tree/run.sh': 'x',
      'a.txt': 'a',
      'b.txt': 'b',
      'deep/x.md': 'x',
      'deep/keep': 'k',
      'whole/deep/new': 'n',
    });
    chmodSync(join(folder, 'tree/run.sh'), 0o751);
    symlinkSync('/etc/passwd', join(folder, 'tree/link'));
    linkSync(join(folder, 'tree/run.sh'), join(folder, 'tree/hard'));
    await stack.host.sh(`cd ${folder} && mkdir in && echo in > in/side && tar czf archive.tar.gz -C in side && rm -r in`);
    const out = await mustBuild(folder, '-t', 'copied');
    // What was emptied stays what it was, and nothing of before is in it.
    expect(out).toMatch(/\/app 711 \d\n\/tree\/hard 751 2\n\/app\n\/app\/deep\n\/app\/deep\/new\n/);
    expect(out).toContain('/tree/run.sh 751 0:0\n/owned/a.txt 640 1234:1234\n/etc/passwd\n');
    expect(out).toContain(
      [
        '/excluded/keep',
        '/inline/EOF',
        '/inline/RAW',
        '/many/a.txt',
        '/many/b.txt',
        '/many/x.md',
        '/packed/archive.tar.gz',
        '/parents/deep/x.md',
        '/unpacked/side',
      ].join('\n'),
    );
    expect(await run('copied', 'cat', '/inline/EOF', '/inline/RAW')).toMatch(/^value \/usr\S+\nvalue \$PATH$/);
  });

  it('may give the same layer twice, and what comes between does not shine through', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nCOPY a /f\nCOPY b /f\nCOPY a /f\nRUN cat /f\n', a: 'first\n', b: 'second\n' });
    expect(await mustBuild(folder, '-t', 'twice')).toContain('first\n');
    const layers = JSON.parse(await stack.host.mustDocker('image', 'inspect', '--format', '{{json .RootFS.Layers}}', 'twice')) as string[];
    expect(layers[1]).toBe(layers[3]);
    expect(await run('twice', 'cat', '/f')).toBe('first');
  });

  it('never lead outside of the context or the image', async () => {
    const folder = context({
      Dockerfile:
        'FROM BUSYBOX\nRUN ln -s /etc /out && ln -s ../../.. /up\nCOPY secret /out/secret\nCOPY secret /up/top\nRUN cat /etc/secret /top\n',
      secret: 's\n',
    });
    expect(await mustBuild(folder)).toContain('s\ns\n');
    expect((await stack.host.run('test', ['-e', '/etc/secret'])).code).toBe(1);
    const escaping = context({ Dockerfile: 'FROM BUSYBOX\nCOPY out/passwd /\n' });
    symlinkSync('/etc', join(escaping, 'out'));
    const refused = await buildIn(escaping);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/COPY failed: file not found in build context/);
  });

  it('respect .dockerignore, also for the Dockerfile itself', async () => {
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nCOPY . /all/\nRUN find /all -type f | sort\n',
      '.dockerignore': '*.log\nDockerfile\nsub\n!sub/keep.log\n',
      'a.log': '',
      'a.txt': '',
      'sub/keep.log': '',
      'sub/other': '',
    });
    expect(await mustBuild(folder)).toContain('/all/.dockerignore\n/all/a.txt\n/all/sub/keep.log\n');
  });

  it('say what is missing as dockerd does', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nCOPY absent /\n' });
    const { code, stderr } = await buildIn(folder);
    expect(code).toBe(1);
    expect(stderr).toContain('COPY failed: file not found in build context or excluded by .dockerignore: stat absent: file does not exist');
  });
});

describe('RUN', () => {
  it('takes mounts: cache kept between builds, bind, tmpfs; a secret that is required is refused', async () => {
    const folder = context({
      Dockerfile: `FROM BUSYBOX AS other
RUN echo other > /file
FROM BUSYBOX
ARG N
RUN --mount=type=cache,target=/cache echo $N >> /cache/all && cat /cache/all
RUN --mount=type=bind,source=a,target=/a --mount=type=bind,from=other,source=/file,target=/f cat /a /f
RUN --mount=type=bind,rw,source=sub,target=/w --mount=type=bind,rw,from=other,source=/etc,target=/e cp /w/b /w/new && rm /w/b /e/passwd && ls /w /e
RUN --mount=type=bind,rw,source=sub:x,target=/w echo lost > /w/c && cat /w/c
RUN --mount=type=bind,target=/all cat /all/sub/b /all/sub:x/c && ls /all/sub
RUN --mount=type=tmpfs,target=/t touch /t/x && grep ' /t tmpfs' /proc/mounts
RUN --mount=type=secret,id=s test ! -e /run/secrets/s
RUN test ! -e /cache/all && test ! -e /t && test ! -e /f
`,
      a: 'context\n',
      'sub/b': 'kept\n',
      'sub:x/c': 'kept too\n',
    });
    const out = await mustBuild(folder, '--build-arg', 'N=1');
    expect(out).toContain('context\nother\n');
    // What is written on a bind mount is there for that step alone.
    expect(out).toContain('/e:\ngroup\n\n/w:\nnew\n');
    expect(out).toContain('\nlost\n');
    expect(out).toContain('kept\nkept too\nb\n');
    expect(await mustBuild(folder, '--build-arg', 'N=2')).toContain('1\n2\n');
    const secret = context({ Dockerfile: 'FROM BUSYBOX\nRUN --mount=type=secret,id=s,required=true true\n' });
    expect((await buildIn(secret)).stderr).toContain('secret s: not found');
    const agent = context({ Dockerfile: 'FROM BUSYBOX\nRUN --mount=type=ssh,required=true true\n' });
    expect((await buildIn(agent)).stderr).toContain('no SSH key "default" forwarded from the client');
  });

  it('takes here-documents, also as scripts', async () => {
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nRUN <<EOF\necho first\nexit_code=0\necho second\nEOF\nRUN <<"S"\n#!/bin/ash -e\necho script $0\nS\n',
    });
    const out = await mustBuild(folder);
    expect(out).toContain('first\nsecond\n');
    expect(out).toContain('script /');
  });

  it('gets limits, networks and hosts that were asked for', async () => {
    const folder = context({
      Dockerfile:
        'FROM BUSYBOX\nRUN ip -o link | wc -l; ulimit -n; grep extra /etc/hosts; df /dev/shm | tail -1\nRUN --network=none ip -o link | wc -l\n',
    });
    const out = await mustBuild(
      folder,
      '--network',
      'none',
      '--ulimit',
      'nofile=100:200',
      '--shm-size',
      '32m',
      '--no-cache',
      '--add-host',
      'extra:1.2.3.4',
    );
    expect(out).toMatch(/\n1\n100\n1\.2\.3\.4\s+extra\nshm\s+32768/);
  });

  it('leaves its containers with --rm=false, and they had the limits that were asked for', async () => {
    const limits = 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null';
    const folder = context({ Dockerfile: `FROM BUSYBOX\nRUN ${limits}; grep Cpus_allowed_list /proc/self/status\n` });
    const memory = ['--memory', '64m', '--memory-swap', '96m'];
    const cpu = ['--cpu-shares', '512', '--cpu-period', '50000', '--cpu-quota', '25000', '--cpuset-cpus', '0', '--cpuset-mems', '0'];
    const out = await mustBuild(folder, '--rm=false', '--no-cache', '--cgroup-parent', '/build-parent', ...memory, ...cpu);
    expect(out).toMatch(/\n67108864\nCpus_allowed_list:\s+0\n/);
    const fields = ['Memory', 'MemorySwap', 'CpuShares', 'CpuPeriod', 'CpuQuota', 'CpusetCpus', 'CpusetMems', 'CgroupParent'];
    const left = await stack.host.mustDocker('ps', '-aq');
    const format = fields.map((field) => `{{.HostConfig.${field}}}`).join(' ');
    expect(await stack.host.mustDocker('inspect', '--format', format, left)).toBe('67108864 100663296 512 50000 25000 0 0 /build-parent');
    await stack.host.mustDocker('rm', left);
    // The group stays, as with dockerd: it is the operator's.
    await stack.host.sh('find /sys/fs/cgroup -depth -type d -name build-parent -exec rmdir {} +');
  });

  it('that fails ends the build with its code, and leaves the container only where that was asked for', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN exit 7\n' });
    const failed = await buildIn(folder, '--force-rm');
    expect(failed.code).toBe(7);
    expect(failed.stderr).toContain("The command '/bin/sh -c exit 7' returned a non-zero code: 7");
    expect(await stack.host.mustDocker('ps', '-aq')).toBe('');
    await buildIn(folder);
    const [left] = (await stack.host.mustDocker('ps', '-aq')).split('\n');
    expect(left).toMatch(/^[0-9a-f]{12}$/);
    await stack.host.mustDocker('rm', left ?? '');
  });

  it('that fails ends the stages beside it', async () => {
    const folder = context({
      Dockerfile:
        'FROM BUSYBOX AS slow\nRUN sleep 100\nFROM BUSYBOX AS bad\nRUN sleep 1; exit 9\nFROM BUSYBOX\nCOPY --from=slow / /a/\nCOPY --from=bad / /b/\n',
    });
    const startedAt = Date.now();
    expect((await buildIn(folder, '--force-rm')).code).toBe(9);
    expect(Date.now() - startedAt).toBeLessThan(60_000);
    expect(await stack.host.mustDocker('ps', '-aq')).toBe('');
  });

  it('that is cut off by its client leaves nothing', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN touch /begun && sleep 300\n' });
    const child = spawn('docker', ['build', folder], { env: { ...stack.host.dockerEnvironment, ...classic }, stdio: 'ignore' });
    await waitFor(async () => (await stack.host.mustDocker('ps', '-q')) !== '', { what: 'the step to run' });
    child.kill('SIGKILL');
    await waitFor(async () => (await stack.host.mustDocker('ps', '-aq')) === '', { what: 'the step to be gone' });
  });

  it('whose image-service dies is taken away, and can be repeated', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN test -e /nothing || sleep 3; echo done\n' });
    const first = buildIn(folder);
    await waitFor(async () => (await stack.host.mustDocker('ps', '-q')) !== '', { what: 'the step to run' });
    const killed = await stack.host.kill('image-service');
    expect((await first).code).not.toBe(0);
    await stack.host.waitHealthy('image-service', killed);
    await waitFor(async () => (await stack.host.mustDocker('ps', '-aq')) === '', { what: 'the step to be gone' });
    expect(await mustBuild(folder)).toContain('done\n');
  });
});

describe('contexts', () => {
  it('come from standard input: a Dockerfile alone, or a tar, compressed', async () => {
    const { host } = stack;
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nCOPY a /\nRUN cat /a\n', a: 'from tar\n' });
    const piped = (command: string): Promise<CommandResult> =>
      host.run('sh', ['-c', command], { env: { ...host.dockerEnvironment, ...classic } });
    expect((await piped(`printf 'FROM ${stack.busybox}\\nRUN echo alone\\n' | docker build -`)).stdout).toContain('alone\n');
    for (const how of ['cat', 'gzip', 'xz', 'bzip2', 'zstd -q']) {
      const { code, stdout, stderr } = await piped(`tar c -C ${folder} . | ${how} | docker build --no-cache -`);
      expect({ code, stderr: stderr.includes('rror'), said: stdout.includes('from tar\n') }, how).toEqual({
        code: 0,
        stderr: false,
        said: true,
      });
    }
  });

  it('come from a git repository and from an archive by HTTP', async () => {
    const { host } = stack;
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nCOPY a /\nRUN cat /a\n',
      'in/Dockerfile': 'FROM BUSYBOX\nRUN echo inner\n',
      a: 'in git\n',
    });
    const served = join(host.filesDirectory, 'served');
    await host.sh(`cd ${folder} && git init -q -b master . && git add . && git -c user.name=a -c user.email=a@b commit -qm x && mkdir -p ${served} &&
      git clone -q --bare . ${served}/repo.git && git -C ${served}/repo.git update-server-info && tar czf ${served}/context.tar.gz .`);
    const server = host.spawn('busybox', ['httpd', '-f', '-p', '127.0.0.1:8099', '-h', served]);
    try {
      await waitFor(
        async () => (await host.run('busybox', ['wget', '-qO', '/dev/null', 'http://127.0.0.1:8099/context.tar.gz'])).code === 0,
        { what: 'the server' },
      );
      const build = (...args: string[]): Promise<CommandResult> =>
        host.run('curl', ['-sS', '--unix-socket', host.socketPath, '-X', 'POST', ...args]);
      const remote = (url: string): string => `http://d/build?nocache=1&remote=${encodeURIComponent(url)}`;
      expect((await build(remote('http://127.0.0.1:8099/context.tar.gz'))).stdout).toContain('in git\\n');
      expect((await build(remote('http://127.0.0.1:8099/repo.git'))).stdout).toContain('in git\\n');
      expect((await build(remote('http://127.0.0.1:8099/repo.git#master:in'))).stdout).toContain('inner\\n');
      expect((await build(remote('http://127.0.0.1:8099/absent.git'))).stdout).toContain('error initializing git repository');
      const added = context({
        Dockerfile:
          'FROM BUSYBOX\nADD http://127.0.0.1:8099/context.tar.gz /got/\nADD http://127.0.0.1:8099/repo.git /cloned\nRUN ls /got /cloned && stat -c %a /got/context.tar.gz\n',
      });
      expect(await mustBuild(added)).toContain('/cloned:\nDockerfile\na\nin\n\n/got:\ncontext.tar.gz\n600\n');
    } finally {
      server.kill();
    }
  });

  it('that are hostile are refused and write nothing outside', async () => {
    const { host } = stack;
    const folder = context({});
    const send = async (make: string): Promise<string> => {
      await host.sh(`cd ${folder} && rm -rf t && mkdir t && cd t && printf 'FROM ${stack.busybox}\\nRUN true\\n' > Dockerfile && ${make}`);
      const out = await host.run('curl', [
        '-sS',
        '--unix-socket',
        host.socketPath,
        '-X',
        'POST',
        '-H',
        'content-type: application/x-tar',
        '--data-binary',
        `@${folder}/t.tar`,
        'http://d/build',
      ]);
      return out.stdout;
    };
    await send(`echo x > evil && tar cf ../t.tar --transform 's,^evil,../../../../../../../evil-build,' -P Dockerfile evil`);
    await send(
      `ln -s / link && echo x > evil && tar cf ../t.tar Dockerfile link && tar rf ../t.tar --transform 's,^evil,link/evil-build,' evil`,
    );
    expect((await host.run('test', ['-e', '/evil-build'])).code).toBe(1);
    expect(await send('head -c 100000 /dev/urandom > ../t.tar')).toMatch(/Error processing tar file|invalid/);
    expect(await send(`mkfifo pipe && rm Dockerfile && mkfifo Dockerfile && tar cf ../t.tar Dockerfile`)).toContain(
      'Cannot locate specified Dockerfile',
    );
    // A Dockerfile behind a link, ignored: it must not be the host's file that is taken away.
    const hidden = join(host.filesDirectory, 'outside');
    await host.sh(`mkdir -p ${hidden} && echo keep > ${hidden}/x`);
    await host.sh(`cd ${folder} && rm -rf t && mkdir -p t/in && cd t && printf 'FROM ${stack.busybox}\n' > x && ln -s ${hidden} sub && echo sub > .dockerignore &&
      tar cf ../h.tar .dockerignore sub && tar rf ../h.tar -P --transform 's,^x,${hidden.slice(1)}/x,' x`);
    await host.run('curl', [
      '-sS',
      '--unix-socket',
      host.socketPath,
      '-X',
      'POST',
      '--data-binary',
      `@${folder}/h.tar`,
      'http://d/build?dockerfile=sub/x',
    ]);
    expect(await host.sh(`cat ${hidden}/x`)).toBe('keep\n');
    rmSync(folder, { recursive: true, force: true });
  });
});

describe('the request', () => {
  it.each([
    ['version=3', 400, 'invalid version 3'],
    // Without a session the body is the context.
    ['version=2', 400, 'Cannot locate specified Dockerfile: Dockerfile'],
    ['t=UPPER', 400, 'invalid reference format'],
    ['buildargs=nonsense', 400, 'error reading build args'],
    ['shmsize=x', 400, 'strconv.ParseInt'],
    ['squash=1', 400, 'squash is only supported with experimental mode'],
    ['platform=a/b/c/d', 400, 'a/b/c/d'],
    ['dockerfile=../outside', 400, 'Forbidden path outside the build context'],
  ])('%s is answered %i: %s', async (query, status, message) => {
    const { host } = stack;
    const out = await host.run('sh', [
      '-c',
      `tar c -C /etc hostname | curl -sS --unix-socket ${host.socketPath} -w '%{http_code}' -X POST -H 'content-type: application/x-tar' --data-binary @- 'http://d/build?${query}'`,
    ]);
    expect(out.stdout).toContain(message);
    expect(out.stdout.slice(-3)).toBe(String(status));
  });

  it('names the line of a Dockerfile that is wrong', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\n\nFOO bar\n' });
    const { code, stderr } = await buildIn(folder);
    expect(code).toBe(1);
    expect(stderr).toContain('dockerfile parse error on line 3: unknown instruction: FOO (did you mean FROM?)');
  });
});

describe('the cache', () => {
  it('is counted, and pruned by what nothing uses', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN head -c 100000 /dev/zero > /zeros\n' });
    await mustBuild(folder, '-t', 'pruned');
    const df = JSON.parse(
      await stack.host.mustDocker('system', 'df', '--format', '{{json .}}').then((text) => `[${text.split('\n').join(',')}]`),
    );
    expect(Number(df.find((row: { Type: string }) => row.Type === 'Build Cache').TotalCount)).toBeGreaterThan(0);
    await stack.host.mustDocker('rmi', '-f', 'pruned');
    const pruned = await stack.host.mustDocker('builder', 'prune', '-af');
    expect(pruned).toMatch(/Total reclaimed space: /);
    expect((await mustBuild(folder)).includes('Using cache')).toBe(false);
    await stack.host.mustDocker('image', 'prune', '-af');
    await stack.host.mustDocker('builder', 'prune', '-af');
  });
});
