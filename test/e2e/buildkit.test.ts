/** `docker build` as most people have it: buildx, which speaks BuildKit's protocol to the engine. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, mustSucceed, waitFor } from '@flotilla/testkit';
import { describe, expect, it } from 'vitest';
import { useBuildx } from './buildx.ts';
import { isCompact } from './stack.ts';

const { stack, context, docker, build, failure, run } = useBuildx();

describe('a build by buildx', () => {
  it('uses the default builder, shows its steps, and uses the cache the second time', async () => {
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nENV A=1\nCOPY a /\nRUN cat /a; echo oops >&2\nCMD ["cat", "/a"]\n',
      a: 'content\n',
      b: '',
    });
    const first = await build(folder, '-t', 'steps:1', '-t', 'other/steps');
    expect(first).toContain('#0 building with "default" instance using docker driver');
    expect(first).toMatch(/\[internal\] load build definition from Dockerfile\n#\d+ transferring dockerfile: \d+B/);
    expect(first).toMatch(/\[internal\] load build context\n#\d+ transferring context: 8B/);
    expect(first).toMatch(new RegExp(`\\[1/3\\] FROM ${stack.busybox}`));
    expect(first).toContain('[2/3] COPY a /\n');
    expect(first).toMatch(/\[3\/3\] RUN cat \/a; echo oops >&2\n(#\d+ [\d.]+ (content|oops)\n){2}/);
    expect(first).toMatch(/exporting to image\n#\d+ exporting layers.*\n#\d+ writing image sha256:[0-9a-f]{64}/);
    expect(first).toContain('naming to docker.io/library/steps:1');
    expect(first).toContain('naming to docker.io/other/steps:latest');
    expect(await run('steps:1')).toBe('content');
    expect((await build(folder, '-t', 'steps:1')).match(/ CACHED\n/g)).toHaveLength(2);
    writeFileSync(join(folder, 'a'), 'changed\n');
    const changed = await build(folder, '-t', 'steps:1');
    expect(changed).toMatch(/transferring context: 8B/);
    expect(changed).not.toContain('CACHED');
    expect(await run('steps:1')).toBe('changed');
    expect(await build(folder, '--no-cache')).not.toContain('CACHED');
    expect(await stack.host.mustDocker('ps', '-aq')).toBe('');
    expect((await stack.host.mustDocker('buildx', 'ls')).split('\n')).toHaveLength(3);
  });

  it('writes the id and the metadata to files, and progress as JSON', async () => {
    const folder = context({ Dockerfile: 'FROM scratch\nCOPY Dockerfile /\nLABEL files=1\n' });
    const result = mustSucceed(
      await docker(folder, ['build', '--iidfile', 'id', '--metadata-file', 'metadata', '--progress=rawjson', '-t', 'files', '.']),
      'build',
    );
    const id = await stack.host.mustDocker('image', 'inspect', '--format', '{{.Id}}', 'files');
    expect(readFileSync(join(folder, 'id'), 'utf8')).toBe(id);
    expect(JSON.parse(readFileSync(join(folder, 'metadata'), 'utf8'))).toMatchObject({
      'containerimage.digest': id,
      'containerimage.config.digest': id,
      'image.name': 'docker.io/library/files:latest',
    });
    // This version of buildx writes each document over several lines.
    const updates = result.stderr
      .split(/\n(?=\{\n?)/)
      .map((text) => JSON.parse(text) as { vertexes?: { name: string; completed?: string }[] });
    const ended = updates.flatMap(({ vertexes }) => vertexes ?? []).filter(({ completed }) => completed !== undefined);
    expect(ended.map(({ name }) => name)).toContain('[1/1] COPY Dockerfile /');
    expect((await docker(folder, ['build', '-q', '.'])).stdout).toBe(`${id}\n`);
  });

  it('takes arguments, targets, labels, hosts, limits and named contexts', async () => {
    const more = context({ Dockerfile: '', 'file in it': 'from another\n' });
    const folder = context({
      Dockerfile: `# syntax=docker/dockerfile:1
ARG BASE=nothing
FROM \${BASE} AS one
ARG WORD
RUN echo $WORD > /word; cat /etc/hosts > /hosts; ulimit -n > /limit; df -k /dev/shm | tail -n 1 > /shm
COPY --from=more ["file in it", "/"]
RUN --mount=from=more,target=/more test -f "/more/file in it" && ! touch /more/x 2> /dev/null
FROM replaced AS two
RUN exit 1
FROM two
`,
    });
    await build(
      folder,
      ...['--build-arg', `BASE=${stack.busybox}`, '--build-arg', 'WORD=spoken', '--target', 'one', '--label', 'a=b c', '-t', 'options'],
      ...['--add-host', 'some:1.2.3.4', '--add-host', 'outer:host-gateway', '--ulimit', 'nofile=100:200', '--shm-size', '1m'],
      ...['--build-context', `more=${more}`],
    );
    expect(await run('options', 'cat', '/word', '/limit', '/file in it')).toBe('spoken\n100\nfrom another');
    expect(await run('options', 'cat', '/hosts')).toMatch(/1\.2\.3\.4\s+some\n172\.\d+\.\d+\.1\s+outer/);
    expect(await run('options', 'cat', '/shm')).toMatch(/\s1024\s/);
    expect(await stack.host.mustDocker('image', 'inspect', '--format', '{{index .Config.Labels "a"}}', 'options')).toBe('b c');
    const replaced = context({ Dockerfile: 'FROM replaced\nCOPY --from=replaced /bin/busybox /copy\n' });
    await build(replaced, '--build-context', `replaced=docker-image://${stack.busybox}`, '-t', 'replaced');
    expect(await run('replaced', 'ls', '/copy')).toBe('/copy');
  });

  it('takes what the builder itself is asked by arguments', async () => {
    const folder = context({
      Dockerfile: 'FROM BUSYBOX\nRUN hostname > /host\nRUN --mount=type=cache,id=apart,target=/c ls /c > /had; touch /c/x\n',
    });
    await build(folder, '-t', 'asked');
    expect(await run('asked', 'cat', '/host', '/had')).toBe('buildkitsandbox');
    const of = (name: string): string[] => [
      '--build-arg',
      `BUILDKIT_CACHE_MOUNT_NS=${name}`,
      '--build-arg',
      'BUILDKIT_SANDBOX_HOSTNAME=own',
    ];
    for (const [name, had, ...more] of [
      ['', '\nx'],
      ['team', ''],
      ['other', ''],
      ['team', '\nx', '--no-cache'],
    ] as const) {
      await build(folder, ...more, ...of(name), '-t', 'asked');
      expect(await run('asked', 'cat', '/host', '/had'), name).toBe(`own${had}`);
    }
  });

  it('shows where the Dockerfile is wrong, and what failed', async () => {
    const wrong = context({ Dockerfile: 'FROM BUSYBOX\n\nRUNN x\n' });
    expect(await failure(wrong)).toMatch(
      /Dockerfile:3\n-+\n.*>>> RUNN x\n.*dockerfile parse error on line 3: unknown instruction: RUNN \(did you mean RUN\?\)/s,
    );
    const failing = context({ Dockerfile: 'FROM BUSYBOX\nRUN echo said; exit 7\n' });
    const said = await failure(failing);
    expect(said).toMatch(/> \[2\/2\] RUN echo said; exit 7:\n[\d.]+ said\n-+\nDockerfile:2\n/);
    expect(said).toContain('ERROR: failed to solve: process "/bin/sh -c echo said; exit 7" did not complete successfully: exit code: 7');
    const missing = context({ Dockerfile: 'FROM BUSYBOX\nCOPY missing.txt /\n' });
    expect(await failure(missing)).toMatch(/failed to compute cache key: .*"\/missing\.txt": not found/);
    const nameless = context({ Dockerfile: `FROM ${stack.registry.address}/nope\n` });
    expect(await failure(nameless)).toContain(`failed to resolve source metadata for ${stack.registry.address}/nope:latest`);
    expect(await failure(context({ Dockerfile: '# syntax=example.com/other:1\nFROM BUSYBOX\n' }))).toMatch(
      /frontend example.com\/other:1 is not available/,
    );
    expect(await failure(failing, '--platform', 'linux/s390x')).toMatch(
      /cannot be run on this host|not match the specified platform|no matching manifest/,
    );
    expect(await failure(failing, '--target', 'nope')).toContain('target stage "nope" could not be found');
    expect(await failure(failing, '-f', 'absent')).toContain('failed to read dockerfile: open absent: no such file or directory');
  });

  it('warns of what is unwise in its Dockerfile, or refuses it where that is asked for', async () => {
    const unwise = 'FROM BUSYBOX\nENV KEY value\nCMD echo $HOMER\n';
    const said = await build(context({ Dockerfile: unwise }));
    expect(said).toContain(
      'JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)',
    );
    expect(said).toContain('LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)');
    expect(said).toMatch(/3 warnings found/);
    expect(await build(context({ Dockerfile: `# check=skip=all\n${unwise}` }))).not.toMatch(/warnings? found/);
    const strict = await failure(context({ Dockerfile: `# check=skip=LegacyKeyValueFormat,SecretsUsedInArgOrEnv;error=true\n${unwise}` }));
    expect(strict).toContain('ERROR: failed to solve: lint violation found for rules: JSONArgsRecommended');
    const checked = '# check=experimental=CopyIgnoredFile\nFROM BUSYBOX\nCOPY a /\nCOPY tmp /\n';
    const ignoring = context({ Dockerfile: checked, a: '', tmp: '', '.dockerignore': 'tmp\n' });
    expect(await failure(ignoring)).toContain('CopyIgnoredFile: Attempting to Copy file "tmp" that is excluded by .dockerignore (line 4)');
  });

  it('may be a question only: what a target takes, which targets there are, what is unwise', async () => {
    const folder = context({
      Dockerfile:
        '# first is the first\nFROM BUSYBOX AS first\n# WORD is said\nARG WORD=hello\nFROM first\nRUN --mount=type=secret,id=s exit 1\nCMD x\n',
    });
    const ask = async (question: string, ...args: string[]): Promise<string> => {
      const env = { BUILDX_EXPERIMENTAL: '1' };
      const asked = await docker(folder, ['buildx', 'build', '--progress=quiet', `--print=${question}`, ...args, '.'], { env });
      return mustSucceed(asked, `buildx build --print=${question}`).stdout.trimStart();
    };
    const images = await stack.host.mustDocker('images', '-aq');
    expect(await ask('targets')).toBe('TARGET    DESCRIPTION\nfirst     is the first\n(default) \n');
    expect(await ask('outline')).toMatch(/^BUILD ARG\s+VALUE\s+DESCRIPTION\nWORD\s+hello\s+is said\n\nSECRET\s+REQUIRED\ns\s+\n/);
    expect(await ask('outline', '--target', 'first')).toMatch(/^TARGET:\s+first\nDESCRIPTION:\s+is the first\n/);
    expect(await ask('lint')).toMatch(/WARNING: JSONArgsRecommended - https:.*\n.*\nDockerfile:7\n-+\n(.*\n)+ +7 \| >>> CMD x\n/);
    expect(await ask('subrequests.describe')).toMatch(/^NAME\s+VERSION\s+DESCRIPTION\n(.*\n)*lint\s+1\.0\.0\s+Lint a Dockerfile\n/);
    expect(await stack.host.mustDocker('images', '-aq')).toBe(images);
  });

  it('that is cut off leaves nothing', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN sleep 300\n' });
    const child = stack.host.dockerSpawn('build', folder);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await waitFor(async () => (await stack.host.mustDocker('ps', '-q')) !== '', { what: 'the step to run', timeoutMs: 30_000 });
    child.kill('SIGINT');
    await ended;
    await waitFor(async () => (await stack.host.mustDocker('ps', '-aq')) === '', { what: 'its container to go', timeoutMs: 30_000 });
    const builds = join(stack.host.dataRoot, 'image-service/builds');
    await waitFor(() => readdirSync(builds).length === 0, { what: 'its directory to go', timeoutMs: 30_000 });
  });
});

describe('what a client has to grant', () => {
  it('is the network of the host; the rights of the host nobody can', async () => {
    // A link that only the host has.
    const links = 'if ip link show docker0; then echo seen; else echo none; fi 2> /dev/null | tail -n 1 > /links';
    const host = context({ Dockerfile: `FROM BUSYBOX\nRUN --network=host ${links}\n` });
    await build(context({ Dockerfile: `FROM BUSYBOX\nRUN ${links}\n` }), '-t', 'apart');
    expect(await run('apart', 'cat', '/links')).toBe('none');
    expect(await failure(host)).toContain('network.host is not allowed');
    await build(host, '--allow', 'network.host', '-t', 'granted');
    expect(await run('granted', 'cat', '/links')).toBe('seen');
    await build(context({ Dockerfile: 'FROM BUSYBOX\nRUN ip link show docker0\n' }), '--network', 'host');
    const insecure = context({ Dockerfile: '# syntax=docker/dockerfile:1-labs\nFROM BUSYBOX\nRUN --security=insecure true\n' });
    expect(await failure(insecure)).toContain('security.insecure is not allowed');
    expect(await failure(insecure, '--allow', 'security.insecure')).toContain('granting entitlement security.insecure is not allowed');
  });
});

describe('owners', () => {
  it('are the user of that moment for WORKDIR, and the group that a user is in for --chown; with the classic builder root, and the group of that name', async () => {
    const users = "echo 'runner:x:100:65534::/:' >> /etc/passwd; echo 'runner:x:7:' >> /etc/group";
    const folder = context({
      Dockerfile: `FROM BUSYBOX\nRUN ${users}\nCOPY --chown=runner a /a\nUSER runner\nWORKDIR /w/deep\nRUN touch /tmp/x\nUSER 5:6\nWORKDIR /w/own\nWORKDIR /tmp\n`,
      a: '',
    });
    const owners = async (env: Record<string, string>): Promise<string> => {
      mustSucceed(await docker(folder, ['build', '-t', 'owners', '.'], { env }), 'docker build');
      return run('owners', 'stat', '-c', '%u:%g', '/a', '/w', '/w/deep', '/w/own', '/tmp');
    };
    expect((await owners({})).split('\n')).toEqual(['100:65534', '100:65534', '100:65534', '5:6', '0:0']);
    expect((await owners({ DOCKER_BUILDKIT: '0' })).split('\n')).toEqual(['100:7', '0:0', '0:0', '0:0', '0:0']);
  });
});

describe('both builders', () => {
  it('give the same files and the same configuration', async () => {
    const below = context({ Dockerfile: 'FROM BUSYBOX\nONBUILD COPY on /on\nONBUILD RUN cat /on/build > /built\n' });
    await build(below, '-t', 'below');
    const folder = context({
      Dockerfile: `ARG TAG=none
FROM below AS first
ARG WORD="with space"
ENV A=1 B="\${A}2 $WORD"
WORKDIR /work/deep
RUN printf %s "$B" > env && mkfifo pipe && ln -s ../env link && chmod 4711 env && chown 5:6 env
COPY --chown=7:8 --chmod=640 on/ mixed*.txt ./copied/
ADD packed.tar /unpacked
FROM below
COPY --from=first --link /work /work
COPY <<EOF /script
echo $HOME
EOF
RUN <<EOF
echo one > /one
rm /bin/vi
EOF
USER 5:6
EXPOSE 80 53/udp
VOLUME /data
LABEL a="b c" d=e
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGQUIT
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT exec sleep
CMD ["100"]
`,
      'on/build': 'on\n',
      'mixed1.txt': '1',
      'mixed2.txt': '2',
      'left.txt': '3',
      '.dockerignore': 'mixed2*\n',
    });
    await mustRun('tar', ['-cf', 'packed.tar', 'left.txt', 'on'], { cwd: folder });
    const args = ['--build-arg', 'WORD=given', '--label', 'f=g', '-t', 'both'];
    const described = async (): Promise<unknown> => {
      const config = JSON.parse(await stack.host.mustDocker('image', 'inspect', '--format', '{{json .Config}}', 'both'));
      const find =
        'cd / && find . -xdev ! -path "./proc/*" ! -path "./sys/*" ! -path "./dev/*" ! -path "./etc/*" -exec stat -c "%n %A %u %g %s %N" {} + | sort; md5sum /one /script /built /work/*/*/* 2>/dev/null';
      const tree = await stack.host.mustDocker(
        'run',
        '--rm',
        '-u',
        '0',
        '--network',
        'none',
        '--entrypoint',
        '/bin/sh',
        'both',
        '-c',
        find,
      );
      return { config, tree: tree.replace(/^(\.|\.\/data|\.\/proc|\.\/sys|\.\/dev|\.\/etc) .*\n/gm, '') };
    };
    await build(folder, ...args);
    const byBuildx = await described();
    await stack.host.mustDocker('rmi', 'both');
    await stack.host.mustDocker('builder', 'prune', '-af');
    mustSucceed(await docker(folder, ['build', ...args, '.'], { env: { DOCKER_BUILDKIT: '0' } }), 'the classic build');
    expect(byBuildx).toEqual(await described());
  });
});

/** Dockerfiles that dockerd's classic builder cannot read, each by its own feature. */
const onlyBuildKit: Readonly<Record<string, string>> = {
  'here-documents as files': 'COPY <<one <<"two" /d/\n$WORD\none\n$WORD\ntwo\n',
  'here-documents as commands': 'RUN <<END sh -e\necho "$WORD" > /said\nmkdir /d; ln -s ../said /d/link\nEND\n',
  'a cache kept from step to step':
    'RUN --mount=type=cache,id=ten,target=/c,mode=0751 echo x > /c/f\nRUN --mount=type=cache,id=ten,target=/c cat /c/f > /f; stat -c %a /c > /mode\n',
  'a stage mounted':
    'RUN --mount=from=other,source=/made,target=/m,rw cp -a /m/a /a; echo y > /m/b\nRUN --mount=from=other,target=/m ls /m/made > /list\n',
  'the context mounted': 'RUN --mount=target=/m cp /m/tree/b/two /two; ! touch /m/x 2> /dev/null\n',
  'memory mounted': 'RUN --mount=type=tmpfs,target=/t,size=1m head -c 900000 /dev/zero > /t/f; wc -c < /t/f > /size\n',
  'copies linked': 'RUN mkdir -p /real\nCOPY --link tree /real/in\nCOPY --link --chmod=600 --chown=3:4 tree/one /real/one\n',
  'copies with their parents': 'COPY --parents tree/./b/two tree/one /p/\nCOPY --parents --from=other /made/a /q/\n',
  'copies with exceptions': 'COPY --exclude=b --exclude=*e tree /e\nCOPY --exclude=**/two tree /g\n',
  'steps without a network': 'RUN --network=none ip link | grep -c ": lo" > /links; ! ip route | grep default > /routes\n',
};

describe('Dockerfiles that only BuildKit’s language has', () => {
  it('give the same files and configuration by both ways', { timeout: 300_000 }, async () => {
    const shown = async (image: string): Promise<object> => {
      const find =
        'cd /; for d in a d e f g p q real said size two list links routes mode; do [ ! -e $d ] || find $d -exec stat -c "%n %A %u %g %N" {} + -type f -exec md5sum {} +; done; ls / /c /m /t 2> /dev/null; true';
      const inspected = await stack.host.mustDocker('image', 'inspect', '--format', '{{json .Config}} {{len .RootFS.Layers}}', image);
      return { inspected, tree: (await run(image, 'sh', '-c', find)).split('\n').sort() };
    };
    const compare = async ([name, text]: [string, string], index: number): Promise<void> => {
      const folder = context({
        Dockerfile: `# syntax=docker/dockerfile:1-labs\nFROM BUSYBOX AS other\nRUN mkdir /made; echo a > /made/a\nFROM BUSYBOX\nARG WORD=word\n${text}`,
        'tree/one': '1',
        'tree/b/two': '2',
        'tree/three': '3',
      });
      await build(folder, '-t', `ten:${index}`);
      const byBuildx = await shown(`ten:${index}`);
      mustSucceed(await docker(folder, ['build', '--no-cache', '-t', `ten:${index}`, '.'], { env: { DOCKER_BUILDKIT: '0' } }), name);
      expect(byBuildx, name).toEqual(await shown(`ten:${index}`));
      expect(JSON.stringify(byBuildx), name).toMatch(/[0-9a-f]{32} {2}/);
    };
    const left = [...Object.entries(onlyBuildKit).entries()];
    const worker = async (): Promise<void> => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) await compare(next[1], next[0]);
    };
    await Promise.all([worker(), worker(), worker()]);
  });
});

describe.skipIf(isCompact)('two replicas of image-service', () => {
  it('serve builds: the connections of one meet', async () => {
    mustSucceed(await stack.host.flotilla('scale', 'image-service=2'), 'flotilla scale');
    try {
      const folder = context({ Dockerfile: 'FROM BUSYBOX\nCOPY a /\nRUN cat /a\n', a: '' });
      for (const content of ['one', 'two', 'three']) {
        writeFileSync(join(folder, 'a'), content);
        await build(folder, '-t', 'replicas');
        expect(await run('replicas', 'cat', '/a')).toBe(content);
      }
    } finally {
      mustSucceed(await stack.host.flotilla('scale', 'image-service=1'), 'flotilla scale');
    }
  });
});

describe('bake', () => {
  it('builds targets side by side: on each other, and equal steps once', async () => {
    const same = '"FROM BUSYBOX AS s\\nRUN sleep 1; cat /proc/uptime > /when\\nFROM s\\n';
    const folder = context({
      'docker-bake.hcl': `
group "default" {
  targets = ["base", "left", "right", "one", "two"]
}
target "base" {
  dockerfile-inline = "FROM BUSYBOX\\nRUN cat /proc/uptime > /base\\n"
  tags = ["bake-base"]
}
target "left" {
  contexts = { base = "target:base" }
  dockerfile-inline = "FROM base\\nRUN echo left > /left\\n"
  tags = ["bake-left"]
}
target "right" {
  contexts = { other = "target:base" }
  dockerfile-inline = "FROM BUSYBOX\\nCOPY --from=other /base /copied\\n"
  tags = ["bake-right"]
}
target "one" {
  dockerfile-inline = ${same}CMD one"
  tags = ["bake-one"]
}
target "two" {
  dockerfile-inline = ${same}CMD two"
  tags = ["bake-two"]
}
`,
    });
    mustSucceed(await docker(folder, ['buildx', 'bake']), 'docker buildx bake');
    const base = await run('bake-base', 'cat', '/base');
    expect(await run('bake-left', 'cat', '/base', '/left')).toBe(`${base}\nleft`);
    expect(await run('bake-right', 'cat', '/copied')).toBe(base);
    expect(await run('bake-one', 'cat', '/when')).toBe(await run('bake-two', 'cat', '/when'));
  });
});

describe('the cache', () => {
  it('is listed and pruned by filters', async () => {
    const folder = context({ Dockerfile: 'FROM BUSYBOX\nRUN --mount=type=cache,target=/c,id=listed echo x > /c/f\nCOPY a /\n', a: 'a\n' });
    await build(folder);
    const ids = async (...filters: string[]): Promise<string[]> => {
      const shown = await stack.host.mustDocker('buildx', 'du', ...filters.flatMap((filter) => ['--filter', filter]));
      return shown
        .split('\n\n')[0]
        ?.split('\n')
        .slice(1)
        .map((line) => line.split(/[*\s]/)[0] ?? '')
        .filter((id) => id.length === 25) as string[];
    };
    const all = await ids();
    const mounts = await ids('type=exec.cachemount');
    expect(all.length).toBeGreaterThan(mounts.length);
    expect(mounts.length).toBeGreaterThan(0);
    expect(await ids(`id=${mounts[0]?.slice(0, 12)}`)).toEqual([mounts[0]]);
    expect((await stack.host.docker('buildx', 'du', '--filter', 'nonsense=1')).stderr).toContain("invalid filter 'nonsense'");
    await stack.host.mustDocker('buildx', 'prune', '-f', '--filter', 'type=exec.cachemount');
    expect(await ids('type=exec.cachemount')).toEqual([]);
    // What is done again without the cache takes the place of what was there, which a prune still finds.
    await build(folder, '--no-cache', '--output', 'type=cacheonly');
    await build(folder, '--no-cache', '--output', 'type=cacheonly');
    expect((await ids('type=regular')).length).toBeGreaterThan(2);
    await stack.host.mustDocker('buildx', 'prune', '-af');
    expect(await ids()).toEqual([]);
  });
});
