/** What clients of BuildKit's protocol bring and take: contexts, credentials, secrets, results, an old CLI, and a builder in a container of its own. */
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type CommandResult, mustRun, mustSucceed, oldDockerClient, startRegistry, waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { useBuildx } from './buildx.ts';

// A first copy into a container that stands still makes the directory for its views; groups that a container names as its parent stay.
const { stack, context, docker, build, failure, run } = useBuildx([/^file exec\/container-service\/views$/, /^cgroup \/docker\b/]);

describe('the CLI of before 23, which has no buildx', () => {
  const old = async (cwd: string, ...args: string[]): Promise<CommandResult> =>
    stack.host.run(await oldDockerClient(), args, {
      cwd,
      env: { ...stack.host.dockerEnvironment, DOCKER_CONFIG: join(stack.host.filesDirectory, 'old') },
    });

  it('builds by its session', async () => {
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nCOPY a /\nRUN --mount=type=secret,id=s wc -c < /run/secrets/s > /size\n',
      a: 'content\n',
    });
    const result = mustSucceed(
      await old(folder, 'build', '--progress=plain', '--secret', 'id=s,src=a', '--iidfile', 'id', '-t', 'old', '.'),
      'build',
    );
    expect(result.stderr).toMatch(/\[2\/3\] COPY a \/\n/);
    expect(await run('old', 'cat', '/a', '/size')).toBe('content\n8');
    expect(readFileSync(join(folder, 'id'), 'utf8')).toBe(await stack.host.mustDocker('image', 'inspect', '--format', '{{.Id}}', 'old'));
    mustSucceed(await old(folder, 'build', '-o', 'out', '.'), 'build -o');
    expect(readFileSync(join(folder, 'out/a'), 'utf8')).toBe('content\n');
    const failing = await old(context({ Dockerfile: 'FROM BUSYBOX\nRUN exit 3\n' }), 'build', '.');
    expect(failing).toMatchObject({ code: 1, stderr: expect.stringMatching(/did not complete successfully: exit code: 3\n$/) });
  });
});

describe('the context', () => {
  it('comes without what is ignored, and with links, modes and times', async () => {
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nCOPY . /c\n',
      '.dockerignore': '# comment\n**/*.log\nsecret/**\n!secret/not\n/top\n',
      'a.log': '',
      'deep/b.log': '',
      'deep/ünï code': 'x',
      'secret/key': 'k',
      'secret/not': 'n',
      top: '',
      'script.sh': '#!/bin/sh\n',
    });
    symlinkSync('deep', join(folder, 'link'));
    await mustRun('sh', ['-c', 'chmod 755 script.sh; touch -d 2001-02-03 script.sh; ln script.sh hard'], { cwd: folder });
    await build(folder, '-t', 'context');
    expect((await run('context', 'sh', '-c', 'cd /c; find . | sort')).split('\n')).toEqual(
      [
        '.',
        './.dockerignore',
        './Dockerfile',
        './deep',
        './deep/ünï code',
        './hard',
        './link',
        './script.sh',
        './secret',
        './secret/not',
      ].sort(),
    );
    expect(await run('context', 'stat', '-c', '%a %u %y', '/c/script.sh')).toMatch(/^755 0 2001-02-03/);
    expect(await run('context', 'readlink', '/c/link')).toBe('deep');
  });

  it('may be on standard input: a Dockerfile or a tar; and the Dockerfile may be elsewhere', async () => {
    const folder = context({ file: 'here\n', 'sub/Other': 'FROM BUSYBOX\nCOPY file /other\n' });
    const dockerfile = `FROM ${stack.busybox}\nCOPY file /piped\n`;
    mustSucceed(await docker(folder, ['build', '-t', 'piped', '-f', '-', '.'], { input: dockerfile }), 'build -f -');
    expect(await run('piped', 'cat', '/piped')).toBe('here');
    mustSucceed(await docker(folder, ['build', '-t', 'alone', '-'], { input: `FROM ${stack.busybox}\nRUN touch /alone\n` }), 'build -');
    expect(await run('alone', 'ls', '/alone')).toBe('/alone');
    writeFileSync(join(folder, 'Dockerfile'), dockerfile);
    const tar = await mustRun('tar', ['-cz', 'Dockerfile', 'file'], { cwd: folder });
    mustSucceed(await docker(folder, ['build', '-t', 'packed', '-'], { input: tar.stdoutBytes }), 'build - < tar');
    expect(await run('packed', 'cat', '/piped')).toBe('here');
    await build(folder, '-f', 'sub/Other', '-t', 'elsewhere');
    expect(await run('elsewhere', 'cat', '/other')).toBe('here');
  });
});

describe('contexts over the network', () => {
  it('are git repositories, archives, and Dockerfiles alone', async () => {
    const { host } = stack;
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nCOPY a /a\n',
      'in/Dockerfile': 'FROM BUSYBOX\nCOPY b /b\n',
      'in/b': 'inner\n',
      a: 'outer\n',
      Whole: 'FROM BUSYBOX\nCOPY .git /g\n',
    });
    const served = join(host.filesDirectory, 'served');
    await host.sh(`cd ${folder} && git init -q -b master . && git add . && git -c user.name=a -c user.email=a@b commit -qm x && git tag v1 && mkdir -p ${served} &&
      git clone -q --bare . ${served}/repo.git && git -C ${served}/repo.git update-server-info && tar czf ${served}/context.tar.gz Dockerfile a in &&
      printf 'FROM ${stack.busybox}\\nRUN echo alone > /a\\n' > ${served}/Dockerfile`);
    const address = '127.0.0.1:8097';
    const server = host.spawn('busybox', ['httpd', '-f', '-p', address, '-h', served]);
    try {
      await waitFor(async () => (await host.run('busybox', ['wget', '-qO', '/dev/null', `http://${address}/Dockerfile`])).code === 0, {
        what: 'the server',
      });
      const from = (...args: string[]): Promise<CommandResult> => docker(folder, ['build', '--progress=plain', '-t', 'remote', ...args]);
      const must = async (...args: string[]): Promise<void> => void mustSucceed(await from(...args), args.join(' '));
      await must(`http://${address}/repo.git`);
      expect(await run('remote', 'cat', '/a')).toBe('outer');
      await must(`http://${address}/repo.git#v1:in`);
      expect(await run('remote', 'cat', '/b')).toBe('inner');
      await must(`http://${address}/context.tar.gz`);
      expect(await run('remote', 'cat', '/a')).toBe('outer');
      const commit = (await host.sh(`git -C ${folder} rev-parse HEAD`)).trim();
      const added = (checksum: string, ...sources: string[]): string =>
        context({ Dockerfile: `FROM BUSYBOX\nADD --checksum=${checksum} ${sources.join(' ')} /r/\n`, a: '' });
      const repository = `http://${address}/repo.git`;
      await build(added(commit.slice(0, 12), repository), '-t', 'remote');
      expect(await run('remote', 'cat', '/r/a')).toBe('outer');
      expect(await failure(added('0123456789', repository))).toContain(`expected checksum to match 0123456789, got ${commit}`);
      expect(await failure(added(commit, 'a'))).toContain('checksum requires HTTP(S) or Git sources');
      expect(await failure(added(commit, 'a', repository))).toContain("checksum can't be specified for multiple sources");
      await must('-f', 'Whole', '--build-arg', 'BUILDKIT_CONTEXT_KEEP_GIT_DIR=1', `http://${address}/repo.git`);
      expect(await run('remote', 'cat', '/g/HEAD')).not.toBe('');
      expect((await from('-f', 'Whole', `http://${address}/repo.git`)).stderr).toContain('"/.git": not found');
      expect((await from('-f', 'in/Dockerfile', `http://${address}/repo.git`)).stderr).toContain('"/b": not found');
      await must(`http://${address}/Dockerfile`);
      expect(await run('remote', 'cat', '/a')).toBe('alone');
      const named = context({ Dockerfile: 'FROM BUSYBOX\nCOPY --from=more in/b /b\n' });
      await build(named, '--build-context', `more=http://${address}/repo.git`, '-t', 'remote');
      expect(await run('remote', 'cat', '/b')).toBe('inner');
      expect((await from(`http://${address}/absent.git`)).stderr).toContain('ERROR: failed to solve:');
    } finally {
      server.kill();
    }
  });
});

describe('what a client lends', () => {
  it('its log-in to a registry is for FROM, COPY --from and --push, and is kept by nobody', async () => {
    const { host } = stack;
    // bcrypt of `hidden-0452`
    const registry = await startRegistry({
      place: host,
      port: 5001,
      htpasswd: 'jane:$2b$04$F1LwuKtA5cQOmFC/kS23BeV08rp4I9smgWMvwls2b6CMI6gE8AshG\n',
    });
    try {
      const name = `${registry.address}/private`;
      await host.mustDocker('tag', stack.busybox, `${name}:base`);
      await host.mustDocker('login', '-u', 'jane', '-p', 'hidden-0452', registry.address);
      await host.mustDocker('push', '-q', `${name}:base`);
      await host.mustDocker('rmi', `${name}:base`);
      const folder = context({ Dockerfile: `FROM ${name}:base\nRUN echo made > /made\n` });
      await build(folder, '--push', '-t', `${name}:made`);
      await host.mustDocker('rmi', `${name}:made`);
      const other = context({ Dockerfile: `FROM BUSYBOX\nCOPY --from=${name}:made /made /got\n` });
      await build(other, '-t', 'private');
      expect(await run('private', 'cat', '/got')).toBe('made');
      await host.mustDocker('logout', registry.address);
      expect(await failure(folder, '--pull', '--no-cache')).toMatch(/401|unauthorized|authentication required|no basic auth/i);
      const encoded = Buffer.from('jane:hidden-0452').toString('base64');
      const found = await host.run('grep', ['-rlE', '--binary-files=text', `hidden-0452|${encoded}`, host.dataRoot, host.execRoot]);
      expect(found.stdout).toBe('');
    } finally {
      await registry.stop();
    }
  });

  it('secrets are there while a step runs, and nowhere else', async () => {
    const word = 'xyzzy-0451';
    const folder = context({
      Dockerfile: `FROM BUSYBOX
RUN --mount=type=secret,id=one,mode=0440,gid=7 test "$(stat -c '%a %g' /run/secrets/one)" = '440 7' && wc -c < /run/secrets/one
RUN --mount=type=secret,id=one,env=WORD test -n "$WORD"
RUN --mount=type=secret,id=one,target=/root/key --mount=type=secret,id=none md5sum < /root/key > /sum && test ! -e /run/secrets/none
`,
      word,
    });
    const said = await build(folder, '--secret', 'id=one,src=word', '-t', 'secrets');
    expect(said).not.toContain(word);
    expect((await run('secrets', 'cat', '/sum')).length).toBeGreaterThan(32);
    expect(await run('secrets', 'sh', '-c', 'ls -d /run/secrets /root/key 2>/dev/null; env')).not.toMatch(/secrets|key|WORD/);
    expect(await failure(context({ Dockerfile: 'FROM BUSYBOX\nRUN --mount=type=secret,id=x,required true\n' }))).toContain(
      'secret x: not found',
    );
    const found = await stack.host.run('grep', [
      '-rl',
      '--binary-files=text',
      word,
      stack.host.dataRoot,
      join(stack.host.execRoot, 'image-service'),
    ]);
    // The context itself holds it here; copies of contexts are the client's own files.
    expect(found.stdout.split('\n').filter((path) => path !== '' && !path.includes('/build-contexts/'))).toEqual([]);
    // Another value does not make it another step.
    writeFileSync(join(folder, 'word'), 'other');
    expect((await build(folder, '--secret', 'id=one,src=word')).match(/ CACHED\n/g)).toHaveLength(3);
  });

  it('its ssh agent signs for a step', async () => {
    const libraries = await mustRun('sh', ['-c', "ldd /usr/bin/ssh-add | grep -o '/[^ ]*'"]);
    const folder = context({
      Dockerfile:
        'FROM BUSYBOX\nCOPY root /\nRUN --mount=type=ssh ssh-add -l > /keys\nRUN test -z "$SSH_AUTH_SOCK" && ! ls /run/buildkit 2>/dev/null\n',
    });
    for (const file of ['/usr/bin/ssh-add', ...libraries.stdout.trim().split('\n')]) {
      mkdirSync(join(folder, 'root', dirname(file)), { recursive: true });
      await mustRun('cp', ['-L', file, join(folder, 'root', file)]);
    }
    const script = `ssh-keygen -q -t ed25519 -N '' -C someone -f key; eval "$(ssh-agent)" > /dev/null; trap 'kill $SSH_AGENT_PID' EXIT
      ssh-add -q key; docker build --progress=plain --ssh default -t ssh .`;
    await stack.host.mustRun('sh', ['-ec', script], { cwd: folder, env: { ...stack.host.dockerEnvironment }, timeoutMs: 60_000 });
    expect(await run('ssh', 'cat', '/keys')).toContain('someone (ED25519)');
    expect(await failure(context({ Dockerfile: 'FROM BUSYBOX\nRUN --mount=type=ssh,required true\n' }))).toMatch(
      /unset ssh forward key|no SSH key/,
    );
  });
});

describe('what becomes of it', () => {
  const tree =
    'FROM BUSYBOX AS b\nWORKDIR /w/d\nRUN echo hi > ../f && ln ../f ../g && ln -s f ../l && chmod 2750 .\nFROM scratch\nCOPY --from=b /w /\n';

  it('is files with the client, as a directory or a tar, and no image', async () => {
    const folder = context({ Dockerfile: tree });
    const images = await stack.host.mustDocker('images', '-q');
    await build(folder, '--output', 'out');
    expect(readdirSync(join(folder, 'out'))).toEqual(['d', 'f', 'g', 'l']);
    expect(statSync(join(folder, 'out/d')).mode & 0o7777).toBe(0o2750);
    expect(statSync(join(folder, 'out/f')).ino).toBe(statSync(join(folder, 'out/g')).ino);
    expect(readFileSync(join(folder, 'out/l'), 'utf8')).toBe('hi\n');
    await build(folder, '--output', 'type=tar,dest=out.tar');
    const listed = (await mustRun('tar', ['-tvf', join(folder, 'out.tar')])).stdout;
    expect(listed).toMatch(/drwxr-s---.* d\/\n-rw-r--r--.* f\nhrw-r--r--.* g link to f\nlrwxrwxrwx.* l -> f\n/);
    await build(folder, '--output', 'type=cacheonly');
    expect(await stack.host.mustDocker('images', '-q')).toBe(images);
  });

  it('is the same whenever it is made, with SOURCE_DATE_EPOCH', async () => {
    const seconds = 1_700_000_001;
    const folder = context({
      Dockerfile: `FROM BUSYBOX
RUN echo kept > /kept; touch -d @500 /kept
ARG SOURCE_DATE_EPOCH
WORKDIR /w/deep
COPY a d /etc/c/
COPY a /etc/
ADD packed.tar /p
COPY <<end /doc
$SOURCE_DATE_EPOCH
end
`,
      a: 'a',
      'd/b': 'b',
    });
    await mustRun('sh', ['-c', 'touch -d @1000 a; touch -d @2000000000 d/b; tar -cf packed.tar a d'], { cwd: folder });
    const epoch = (time: number): string[] => ['--build-arg', `SOURCE_DATE_EPOCH=${time}`];
    const idOf = async (...args: string[]): Promise<string> => {
      await build(folder, ...args, '--iidfile', 'id');
      return readFileSync(join(folder, 'id'), 'utf8');
    };
    const first = await idOf(...epoch(seconds), '-t', 'dated');
    await mustRun('touch', ['a', 'd', 'd/b'], { cwd: folder });
    expect(await idOf(...epoch(seconds), '--no-cache')).toBe(first);
    const found = 'stat -c %Y /w /w/deep /etc/c /etc/c/a /etc/c/b /etc/a /doc /p/d/b; stat -c %Y /p/a; cat /doc';
    expect((await run('dated', 'sh', '-c', found)).split('\n')).toEqual([
      ...Array<string>(8).fill(String(seconds)),
      '1000',
      String(seconds),
    ]);
    const created = '2023-11-14T22:13:21Z';
    expect(await stack.host.mustDocker('image', 'inspect', '--format', '{{.Created}}', 'dated')).toBe(created);
    const shown = await stack.host.mustDocker('history', '--no-trunc', '--human=false', '--format', '{{.CreatedAt}}', 'dated');
    expect(shown.split('\n').filter((line) => line.startsWith('2023-11-14T22:13:21Z'))).toHaveLength(7);
    // What comes before the epoch is of use is not done again for another.
    const other = await build(folder, ...epoch(seconds + 1), '-t', 'dated:other');
    expect(other).toMatch(/RUN echo kept > \/kept; touch -d @500 \/kept\n#\d+ CACHED/);
    expect(await run('dated:other', 'stat', '-c', '%Y', '/etc/a')).toBe(String(seconds + 1));
    for (const name of ['one', 'two']) await build(folder, ...epoch(seconds), '--output', `type=tar,dest=${name}.tar`);
    expect(readFileSync(join(folder, 'one.tar')).equals(readFileSync(join(folder, 'two.tar')))).toBe(true);
    await build(folder, ...epoch(seconds), '--output', 'dated');
    expect(statSync(join(folder, 'dated/kept')).mtimeMs).toBe(seconds * 1000);
    expect(await failure(folder, '--build-arg', 'SOURCE_DATE_EPOCH=now')).toContain('invalid SOURCE_DATE_EPOCH: now');
  });

  it('is pushed, and its layers are a cache for others', async () => {
    const name = `${stack.registry.address}/pushed:1`;
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN cat /proc/uptime > /when\nCOPY Dockerfile /\n' });
    await build(folder, '--push', '-t', name, '--cache-to', 'type=inline');
    const when = await run(name, 'cat', '/when');
    await stack.host.mustDocker('rmi', name);
    await stack.host.mustDocker('builder', 'prune', '-af');
    const again = await build(folder, '--cache-from', name, '--cache-from', `${stack.registry.address}/absent`, '-t', 'again');
    expect(again).toContain(`importing cache manifest from ${name}`);
    expect(again.match(/ CACHED\n/g)).toHaveLength(2);
    expect(await run('again', 'cat', '/when')).toBe(when);
    expect(await stack.host.mustDocker('images', '--format', '{{.Repository}}', 'pushed')).toBe('');
  });

  it('buildx itself refuses what a store of this kind has not', async () => {
    const folder = context({ Dockerfile: 'FROM scratch\nCOPY Dockerfile /\n' });
    expect(await failure(folder, '--output', 'type=oci,dest=x')).toContain('OCI exporter is not supported for the docker driver');
    expect(await failure(folder, '--platform', 'linux/amd64,linux/arm64')).toContain(
      'Multi-platform build is not supported for the docker driver',
    );
    expect(await failure(folder, '--provenance=true')).toContain('Attestation is not supported for the docker driver');
    expect(await failure(folder, '--cache-to', 'type=local,dest=x')).toContain('Cache export is not supported for the docker driver');
  });
});

describe('a builder in a container of its own', () => {
  /** Puts whoever connects to a port through to the engine's /grpc: it stands for the daemon in the builder's container. */
  const bridge = `const net = require('node:net');
net.createServer((client) => {
  const engine = net.connect(process.argv[2], () => engine.write('POST /grpc HTTP/1.1\\r\\nHost: x\\r\\nConnection: Upgrade\\r\\nUpgrade: h2c\\r\\nContent-Length: 0\\r\\n\\r\\n'));
  let head = Buffer.alloc(0);
  const read = (chunk) => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\\r\\n\\r\\n');
    if (end < 0) return;
    engine.off('data', read);
    client.write(head.subarray(end + 4));
    client.pipe(engine).pipe(client);
  };
  engine.on('data', read);
  for (const [one, other] of [[client, engine], [engine, client]]) one.on('error', () => other.destroy()).on('close', () => other.destroy());
}).listen(8096, '127.0.0.1');
`;

  it('is started with rights, spoken to over exec, and removed with its volume', async () => {
    const { host } = stack;
    // Its own image is not to be had here: this one has the same commands, and its daemon is the engine's own builder.
    const image = context({
      Dockerfile: 'FROM BUSYBOX\nCOPY --chmod=755 buildctl buildkitd /bin/\nENTRYPOINT ["buildkitd"]\n',
      buildctl: '#!/bin/sh\ncase "$1" in debug) exit 0;; dial-stdio) exec nc 127.0.0.1 8096;; esac\nexit 1\n',
      buildkitd: '#!/bin/sh\nmkdir /proof && mount -t tmpfs none /proof && touch /var/lib/buildkit/state && exec sleep 1000\n',
    });
    await build(image, '-t', 'standin');
    const program = join(image, 'bridge.cjs');
    writeFileSync(program, bridge);
    const server = host.spawn(process.execPath, [program, host.socketPath]);
    try {
      const create = ['buildx', 'create', '--name', 'own', '--driver', 'docker-container', '--buildkitd-flags', '--debug'];
      await host.mustDocker(...create, '--driver-opt', 'image=standin', '--driver-opt', 'network=host');
      const shown = await host.mustDocker('buildx', 'inspect', '--bootstrap', 'own');
      expect(shown).toMatch(/Driver: +docker-container/);
      expect(shown).toMatch(/Status: +running/);
      expect(shown).toMatch(/Platforms: +linux\//);
      const [container = ''] = (await host.mustDocker('ps', '-q', '--filter', 'name=buildx_buildkit_own0')).split('\n');
      const format = '{{.HostConfig.Privileged}} {{.HostConfig.NetworkMode}} {{.Config.Cmd}} {{(index .Mounts 0).Name}}';
      expect(await host.mustDocker('inspect', '--format', format, container)).toBe(
        'true host [--debug --allow-insecure-entitlement=network.host] buildx_buildkit_own0_state',
      );
      expect(await host.mustDocker('exec', container, 'sh', '-c', 'grep -c " /proof tmpfs" /proc/mounts; ls /var/lib/buildkit')).toBe(
        '1\nstate',
      );
      // The records of the engine's cache come through the container.
      expect(await host.mustDocker('buildx', 'du', '--builder', 'own')).toMatch(/Total:\s+[\d.]+[kM]?B/);
      await host.mustDocker('buildx', 'rm', 'own');
      expect(await host.mustDocker('ps', '-aq', '--filter', 'name=buildx_buildkit')).toBe('');
      expect(await host.mustDocker('volume', 'ls', '-q', '--filter', 'name=buildx_buildkit')).toBe('');
    } finally {
      server.kill();
    }
  });
});
