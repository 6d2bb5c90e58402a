/** Who may do what: users on the unix socket, certificates on TLS, a policy that changes while the stack runs, and the audit log. Real clients. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addDockerPlugins, assembleImage, buildLayer, type CommandResult, waitFor } from '@flotilla/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const directory = mkdtempSync(join(tmpdir(), 'flotilla-rights-'));
chmodSync(directory, 0o755);
const file = (name: string): string => join(directory, name);
const openssl = (...args: string[]): unknown => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });

openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test ca', '-days', '2');
for (const name of ['server', 'ci', 'tagger', 'stranger']) {
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
  writeFileSync(file('extensions'), 'subjectAltName=IP:127.0.0.1\n');
  const signing = ['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'];
  openssl(...signing, '-extfile', 'extensions', '-out', `${name}.pem`);
}

const policy = {
  identities: [
    { uid: 4001, role: 'viewer' },
    { uid: 4002, role: 'team-a' },
    { uid: 4004, role: 'operator' },
    { uid: 4005, role: 'images-a' },
    { uid: 4006, role: 'tags-a' },
    { certificate: 'ci', role: 'operator' },
    { certificate: 'tagger', role: 'tags-a' },
  ],
  roles: {
    'images-a': { images: { prefixes: ['a-', 'localhost:5000/a-'], labels: ['team=a'] } },
    'tags-a': { images: { prefixes: ['a-', '127.0.0.1:5000/team:'] } },
    'team-a': {
      operations: ['Container*', 'Exec*', 'Image*', 'Volume*', 'Network*', 'System*'],
      except: ['ContainerExport'],
      objects: { prefixes: ['a-'], labels: ['team=a'] },
      forbid: ['privileged', 'host-mounts', 'host-namespaces', 'devices', 'capabilities', 'unconfined'],
    },
  },
};

function writePolicy(document: unknown): void {
  writeFileSync(file('policy.new'), typeof document === 'string' ? document : JSON.stringify(document));
  renameSync(file('policy.new'), file('policy.json'));
}
writePolicy(policy);
writeFileSync(file('audit.log'), '', { mode: 0o600 });

const tls = ['--tlsverify', '--tlscacert', file('ca.pem'), '--tlscert', file('server.pem'), '--tlskey', file('server.key')];
const stack = useStack({
  stack: { args: ['-H', 'tcp://127.0.0.1:2376', ...tls, '--policy-file', file('policy.json'), '--audit-log', file('audit.log')] },
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A program run by another user who is in the socket's group. */
function as(uid: number, command: string, ...args: string[]): Promise<CommandResult> {
  const { socketPath } = stack.host;
  const { gid } = statSync(socketPath);
  const user = ['--reuid', String(uid), '--regid', String(uid), '--groups', String(gid)];
  const env = {
    PATH: process.env.PATH,
    HOME: '/nonexistent',
    DOCKER_HOST: `unix://${socketPath}`,
    DOCKER_CONFIG: '/nonexistent',
    DOCKER_BUILDKIT: '0',
  };
  return stack.host.run('setpriv', [...user, command, ...args], { env });
}
const viewer = (...args: string[]): Promise<CommandResult> => as(4001, 'docker', ...args);
const team = (...args: string[]): Promise<CommandResult> => as(4002, 'docker', ...args);
const operator = (...args: string[]): Promise<CommandResult> => as(4004, 'docker', ...args);
const imagesA = (...args: string[]): Promise<CommandResult> => as(4005, 'docker', ...args);
const tagsA = (...args: string[]): Promise<CommandResult> => as(4006, 'docker', ...args);
const overTls = (name: string, ...args: string[]): Promise<CommandResult> =>
  stack.host.docker(
    '-H',
    'tcp://127.0.0.1:2376',
    '--tlsverify',
    '--tlscacert',
    file('ca.pem'),
    '--tlscert',
    file(`${name}.pem`),
    '--tlskey',
    file(`${name}.key`),
    ...args,
  );

async function refused(result: Promise<CommandResult>, words: string): Promise<void> {
  const { code, stderr } = await result;
  expect({ code, stderr }).toEqual({ code: expect.toSatisfy((each: number) => each !== 0), stderr: expect.stringContaining(words) });
}

async function output(result: Promise<CommandResult>): Promise<string> {
  const { code, stdout, stderr } = await result;
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.any(String) });
  return stdout.trim();
}

const post = (uid: number, path: string, body: string): Promise<CommandResult> =>
  as(uid, 'curl', '-s', '--unix-socket', stack.host.socketPath, '-H', 'Content-Type: application/json', '-d', body, `http://d${path}`);

describe('identities', () => {
  it('a viewer reads and nothing else', async () => {
    expect(await output(viewer('ps', '-q'))).toBe('');
    expect(await output(viewer('image', 'ls', '-q'))).not.toBe('');
    await refused(viewer('run', stack.busybox, 'true'), 'user 4001 (role viewer) may not use ContainerCreate');
    await refused(viewer('pull', stack.busybox), 'may not use ImageCreate');
  });

  it('a user whom the policy does not know gets nothing', async () => {
    await refused(as(4003, 'docker', 'ps'), 'the policy gives user 4003 no role');
  });

  it('certificates: an operator, one without a role, and none', async () => {
    expect(await output(overTls('ci', 'run', '--rm', stack.busybox, 'echo', 'by tls'))).toBe('by tls');
    await refused(
      overTls('ci', 'run', '--rm', '--privileged', stack.busybox, 'true'),
      'certificate ci (role operator) may not ask for privileged mode',
    );
    await refused(overTls('stranger', 'ps'), 'the policy gives certificate stranger no role');
    const curl = await stack.host.run('curl', ['-sk', '--max-time', '10', 'https://127.0.0.1:2376/_ping']);
    expect(curl.code).not.toBe(0);
    const old = await stack.host.run('openssl', ['s_client', '-connect', '127.0.0.1:2376', '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'], {
      input: '',
    });
    expect(old.code).not.toBe(0);
  });
});

describe('what gives the host away', () => {
  it.each([
    [['--privileged'], 'privileged mode'],
    [['-v', '/:/host'], 'mounts of the host'],
    [
      ['--mount', 'type=volume,source=a-x,target=/x,volume-driver=local,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/etc'],
      'mounts of the host',
    ],
    [['--network', 'host'], "the host's namespaces"],
    [['--pid', 'host'], "the host's namespaces"],
    [['--device', '/dev/null'], 'devices of the host'],
    [['--cap-add', 'SYS_ADMIN'], 'added capabilities'],
    [['--security-opt', 'seccomp=unconfined'], 'weaker confinement'],
  ])('run %j is refused', async (flags, words) => {
    await refused(team('create', '--name', 'a-danger', ...flags, stack.busybox), `user 4002 (role team-a) may not ask for ${words}`);
  });

  it('however the body spells it', async () => {
    const image = JSON.stringify(stack.busybox);
    for (const body of [
      `{"Image":${image},"hostconfig":{"PRIVILEGED":true}}`,
      `{"Image":${image},"HostConfig":{"Privileged":true},"HostConfig":{}}`,
      `{"Image":${image},"HostConfig":{},"hostConfig":{"privileged":true}}`,
    ]) {
      const { stdout } = await post(4002, '/containers/create?name=a-trick', body);
      // Either the last word wins and nothing dangerous is left of it, or it is refused: what is decided on is what is made.
      if (stdout.includes('"Id"')) {
        expect(await stack.host.mustDocker('inspect', '--format', '{{.HostConfig.Privileged}}', 'a-trick')).toBe('false');
        await stack.host.mustDocker('rm', 'a-trick');
      } else expect(stdout).toContain('privileged mode');
    }
    const body = await post(4002, '/v1.24/containers/a-trick/start', '{"Privileged":true}');
    expect(body.stdout).toContain('message');
  });

  it('volumes of the host and privileged execs', async () => {
    await refused(team('volume', 'create', '--opt', 'type=none', '--opt', 'o=bind', '--opt', 'device=/etc', 'a-etc'), 'mounts of the host');
    await output(team('run', '-d', '--name', 'a-exec', stack.busybox, 'sleep', '600'));
    await refused(team('exec', '--privileged', 'a-exec', 'true'), 'privileged mode');
    expect(await output(team('exec', 'a-exec', 'echo', 'plain'))).toBe('plain');
    await output(team('rm', '-f', 'a-exec'));
  });
});

describe('own objects', () => {
  it('what is not yours does not exist', async () => {
    const { host } = stack;
    await host.mustDocker('run', '-d', '--name', 'b-web', '--label', 'team=b', stack.busybox, 'sleep', '600');
    await host.mustDocker('run', '-d', '--name', 'web', '--label', 'team=a', stack.busybox, 'sleep', '600');
    await host.mustDocker('volume', 'create', 'b-data');
    await host.mustDocker('network', 'create', 'b-net');
    await refused(
      team('create', '--name', 'other', stack.busybox),
      'a container of yours needs a name that begins with a- or the label team=a',
    );
    await output(team('volume', 'create', 'a-data'));
    await output(team('network', 'create', 'a-net'));

    expect(await output(team('ps', '--format', '{{.Names}}'))).toBe('web');
    expect(await output(team('volume', 'ls', '-q'))).toBe('a-data');
    expect((await output(team('network', 'ls', '--format', '{{.Name}}'))).split('\n').sort()).toEqual(['a-net', 'bridge', 'host', 'none']);
    for (const command of [
      ['stop', 'b-web'],
      ['logs', 'b-web'],
      ['exec', 'b-web', 'true'],
      ['rm', 'b-web'],
      ['cp', 'b-web:/etc/passwd', '-'],
    ]) {
      await refused(team(...command), 'No such container: b-web');
    }
    await refused(team('volume', 'rm', 'b-data'), 'no such volume');
    await refused(team('network', 'connect', 'b-net', 'web'), 'network b-net not found');
    await refused(team('create', '--name', 'a-1', '--volumes-from', 'b-web', stack.busybox), 'No such container: b-web');
    await refused(team('create', '--name', 'a-1', '-v', 'b-data:/data', stack.busybox), 'the volume b-data is not yours');
    await refused(team('create', '--name', 'a-1', '--pid', 'container:b-web', stack.busybox), 'No such container: b-web');
    await refused(team('export', 'web'), 'may not use ContainerExport');
    // `--until 0s` would leave out what happened in the second that has begun.
    const now = `${Math.ceil(Date.now() / 1000)}`;
    const events = await output(
      team('events', '--since', '5m', '--until', now, '--filter', 'type=container', '--format', '{{.Actor.Attributes.name}}'),
    );
    expect(events).not.toContain('b-web');
    expect(events).toContain('web');
    const usage = await output(as(4002, 'curl', '-s', '--unix-socket', host.socketPath, 'http://d/system/df?type=container&type=volume'));
    expect(usage).toContain('/web');
    expect(usage).not.toContain('b-web');
    expect(usage).not.toContain('b-data');
    expect(await host.mustDocker('inspect', '--format', '{{.State.Running}}', 'b-web')).toBe('true');
  });
});

describe('labels that others have set', () => {
  it('make nothing his: not those of an image, and not those he gives to what is there', async () => {
    const { host } = stack;
    await host.sh(`printf 'FROM ${stack.busybox}\\nLABEL team=a\\n' | docker build -q -t labelled -`, {
      env: { ...host.dockerEnvironment, DOCKER_BUILDKIT: '0' },
    });
    await host.mustDocker('run', '-d', '--name', 'b-labelled', 'labelled', 'sleep', '600');
    await output(team('run', '-d', '--name', 'a-labelled', 'labelled', 'sleep', '600'));
    await host.mustDocker('volume', 'create', '--label', 'team=b', 'b-secret');

    const shown = async (...args: string[]): Promise<string[]> => (await output(team(...args))).split('\n');
    expect(await shown('ps', '-a', '--format', '{{.Names}}')).not.toContain('b-labelled');
    expect(await shown('ps', '-n', '1', '--format', '{{.Names}}')).toEqual(['a-labelled']);
    await refused(team('container', 'inspect', 'b-labelled'), 'No such container: b-labelled');
    await refused(team('exec', 'b-labelled', 'true'), 'No such container: b-labelled');
    const told = await shown(
      'events',
      '--since',
      '5m',
      '--until',
      // `0s` would be the second that has begun: what happened in it would be left out.
      `${Math.ceil(Date.now() / 1000)}`,
      '--filter',
      'event=start',
      '--format',
      '{{.Actor.Attributes.name}}',
    );
    expect(told).toContain('a-labelled');
    expect(told).not.toContain('b-labelled');
    const joined = await output(team('network', 'inspect', '--format', '{{range .Containers}}{{println .Name}}{{end}}', 'bridge'));
    expect(joined).toContain('a-labelled');
    expect(joined).not.toContain('b-labelled');
    await refused(team('volume', 'create', '--label', 'team=a', 'b-secret'), 'a volume of yours needs');
    expect(await host.mustDocker('volume', 'inspect', '--format', '{{.Labels.team}}', 'b-secret')).toBe('b');
    await host.mustDocker('rm', '-f', 'a-labelled', 'b-labelled');
    await host.mustDocker('volume', 'rm', 'b-secret');
    await host.mustDocker('rmi', 'labelled');
    await host.mustDocker('builder', 'prune', '-af');
  });
});

describe('prunes of one who is held to his own', () => {
  it('remove his own and leave the rest', async () => {
    const { host } = stack;
    for (const name of ['a-dead', 'b-dead']) {
      await host.mustDocker('run', '--name', name, stack.busybox, 'true');
      await host.mustDocker('network', 'create', `${name}-net`);
      await host.mustDocker('volume', 'create', `${name}-vol`);
    }
    expect(await output(team('container', 'prune', '-f'))).toContain('Deleted Containers');
    expect(await host.mustDocker('ps', '-a', '--filter', 'name=-dead', '--format', '{{.Names}}')).toBe('b-dead');
    expect(await output(team('network', 'prune', '-f'))).toContain('a-dead-net');
    expect(await host.mustDocker('network', 'ls', '--filter', 'name=-dead-net', '--format', '{{.Name}}')).toBe('b-dead-net');
    expect(await output(team('volume', 'prune', '-af'))).toContain('a-dead-vol');
    expect(await host.mustDocker('volume', 'ls', '-q', '--filter', 'name=-dead-vol')).toBe('b-dead-vol');
    await refused(team('builder', 'prune', '-f'), 'may not use BuildPrune');
    await refused(imagesA('builder', 'prune', '-f'), 'a prune reaches beyond what is yours');
  });
});

describe('what somebody else made dangerous', () => {
  const words = 'user 4004 (role operator) may not use the container priv: it has privileged mode';

  it('is not for those who may not have the danger', async () => {
    const { host } = stack;
    await host.mustDocker('run', '-d', '--name', 'priv', '--privileged', stack.busybox, 'sleep', '600');
    await host.mustDocker('run', '-d', '--name', 'harmless', stack.busybox, 'sleep', '600');
    writeFileSync(file('in'), 'in');
    for (const args of [
      ['exec', 'priv', 'true'],
      ['cp', file('in'), 'priv:/tmp/in'],
      ['cp', 'priv:/etc/passwd', '-'],
      ['export', 'priv'],
      ['commit', 'priv', 'taken'],
      ['update', '--cpu-shares', '100', 'priv'],
      ['create', '--volumes-from', 'priv', stack.busybox],
      ['create', '--pid', 'container:priv', stack.busybox],
      ['create', '--ipc', 'container:priv', stack.busybox],
      ['create', '--network', 'container:priv', stack.busybox],
    ]) {
      await refused(operator(...args), words);
    }
    // Whose network is joined may come after the create.
    await output(operator('create', '--name', 'joins-late', '--network', 'container:later', stack.busybox, 'true'));
    await host.mustDocker('run', '-d', '--name', 'later', '--privileged', stack.busybox, 'sleep', '600');
    await refused(operator('start', 'joins-late'), 'may not use the container later: it has privileged mode');
    await refused(operator('restart', 'joins-late'), 'may not use the container later: it has privileged mode');
    await host.mustDocker('rm', '-f', 'joins-late', 'later');
    // The CLI does not show why.
    await refused(operator('attach', '--no-stdin', 'priv'), 'received 403');
    // An exec that root made, which somebody else would start.
    const made = JSON.parse((await post(0, '/containers/priv/exec', '{"Cmd":["touch","/tmp/by-exec"]}')).stdout) as { Id: string };
    expect((await post(4004, `/exec/${made.Id}/start`, '{"Detach":true}')).stdout).toContain(words);
    expect(await host.mustDocker('exec', 'priv', 'ls', '/tmp')).toBe('');
    const mighty = await post(0, '/containers/harmless/exec', '{"Cmd":["touch","/tmp/by-exec"],"Privileged":true}');
    const { Id: exec } = JSON.parse(mighty.stdout) as { Id: string };
    expect((await post(4004, `/exec/${exec}/start`, '{"Detach":true}')).stdout).toContain('it has privileged mode');
    expect(await host.mustDocker('exec', 'harmless', 'ls', '/tmp')).toBe('');
    expect(await host.mustDocker('ps', '-aq', '--filter', 'status=created')).toBe('');
    // Reading of it, ending it, and a name for it are no danger.
    expect(await output(operator('inspect', '--format', '{{.HostConfig.Privileged}}', 'priv'))).toBe('true');
    await output(operator('logs', 'priv'));
    await output(operator('run', '--rm', '--link', 'priv:p', stack.busybox, 'grep', '-w', 'p', '/etc/hosts'));
    await output(operator('stop', '-t', '0', 'priv'));
    // The same with a container that has nothing of the host.
    expect(await output(operator('exec', 'harmless', 'echo', 'in'))).toBe('in');
    await output(operator('cp', file('in'), 'harmless:/tmp/in'));
    await output(operator('run', '--rm', '--pid', 'container:harmless', '--network', 'container:harmless', stack.busybox, 'true'));
    await output(operator('commit', 'harmless', 'a-commit'));
  });

  it('is not for them as a volume either', async () => {
    const { host } = stack;
    mkdirSync(file('shared'));
    const options = ['--opt', 'type=none', '--opt', 'o=bind', '--opt', `device=${file('shared')}`];
    await host.mustDocker('volume', 'create', ...options, 'hosts-own');
    await refused(
      operator('create', '-v', 'hosts-own:/x', stack.busybox),
      'user 4004 (role operator) may not use the volume hosts-own: it has mounts of the host',
    );
    await host.mustDocker('run', '--rm', '-v', 'hosts-own:/x', stack.busybox, 'touch', '/x/by-root');
    expect(statSync(file('shared/by-root')).isFile()).toBe(true);
  });
});

describe('images', () => {
  const names = async (list: Promise<string>): Promise<string[]> => (await list).split('\n').filter(Boolean).sort();
  const listed = (): Promise<string[]> => names(output(imagesA('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}')));

  it('outside of the limits do not exist, and no name outside of them can be given or taken', async () => {
    const { host } = stack;
    for (const name of ['a-app', 'b-app:1', 'b-app:2']) await host.mustDocker('tag', stack.busybox, name);
    await host.mustDocker('create', '--name', 'a-source', stack.busybox);
    await host.mustDocker('commit', '--change', 'LABEL team=a', 'a-source', 'labelled');
    await host.mustDocker('commit', '--change', 'LABEL team=b', 'a-source', 'b-secret');
    // An image's label makes nobody the owner of what runs from it.
    await host.mustDocker('create', '--name', 'of-labelled', 'labelled');
    await refused(team('rm', 'of-labelled'), 'No such container: of-labelled');
    await host.mustDocker('rm', 'of-labelled');
    // Only what the client may see by some name: the busybox with its name for team a, and what has the label.
    expect(await listed()).toEqual(expect.arrayContaining(['a-app:latest', 'labelled:latest']));
    expect(await listed()).not.toContain('b-secret:latest');
    // Nor are the other names of an image told.
    expect((await listed()).filter((name) => name.startsWith('b-app'))).toEqual([]);
    expect(await output(imagesA('image', 'inspect', '--format', '{{json .RepoTags}}', 'a-app'))).toBe('["a-app:latest"]');
    const history = await output(as(4005, 'curl', '-s', '--unix-socket', host.socketPath, 'http://d/images/a-app/history'));
    expect(history).toContain('"a-app:latest"');
    expect(history).not.toContain('b-app');
    for (const args of [
      ['image', 'inspect', 'b-secret'],
      ['history', 'b-secret'],
      ['save', 'b-secret'],
      ['tag', 'b-secret', 'a-stolen'],
      ['rmi', 'b-secret'],
    ]) {
      await refused(imagesA(...args), 'o such image: b-secret:latest');
    }
    // It is not here for the CLI, which then pulls.
    await refused(imagesA('create', 'b-secret'), 'the name b-secret:latest is not yours');
    const secret = await host.mustDocker('image', 'inspect', '--format', '{{.Id}}', 'b-secret');
    await refused(imagesA('create', secret), 'o such image');
    await refused(imagesA('push', 'b-secret'), 'does not exist locally with the tag: b-secret');
    await refused(imagesA('push', 'b-app:1'), 'an image of yours needs a name that begins with a-');
    await refused(imagesA('push', '-a', 'b-app'), 'does not exist locally with the tag: b-app');
    await refused(imagesA('tag', 'a-app', 'other'), 'an image of yours needs a name that begins with a-');
    await refused(imagesA('tag', 'labelled', 'b-secret'), 'the name b-secret:latest is not yours');
    await refused(imagesA('rmi', 'b-app:1'), 'an image of yours needs a name that begins with a-');
    await refused(imagesA('commit', 'a-source', 'c-new'), 'an image of yours needs a name that begins with a-');
    await output(imagesA('tag', 'a-app', 'a-other'));
    await output(imagesA('commit', 'a-source', 'a-commit'));
    await output(imagesA('rmi', 'a-other'));
    expect(await host.mustDocker('image', 'inspect', '--format', '{{.Id}}', 'b-secret')).toBe(secret);
  });

  it('are not loaded, pulled or built under such a name', async () => {
    const { host } = stack;
    await host.mustDocker('save', '-o', file('secret.tar'), 'b-secret');
    chmodSync(file('secret.tar'), 0o644);
    await host.mustDocker('rmi', 'b-secret');
    await refused(imagesA('load', '-i', file('secret.tar')), 'needs a name that begins with a-');
    await refused(imagesA('pull', stack.busybox), 'an image of yours needs a name that begins with a-');
    await host.mustDocker('load', '-i', file('secret.tar'));
    mkdirSync(file('steal'));
    writeFileSync(file('steal/Dockerfile'), 'FROM b-secret\nRUN true\n');
    await refused(imagesA('build', '-t', 'a-built', file('steal')), 'the name b-secret:latest is not yours');
    writeFileSync(file('steal/Dockerfile'), 'FROM a-app\nCOPY --from=b-secret /bin /bin\n');
    await refused(imagesA('build', '-t', 'a-built', file('steal')), 'the name b-secret:latest is not yours');
    writeFileSync(file('steal/Dockerfile'), 'FROM a-app\nRUN echo built > /by\n');
    await refused(imagesA('build', '-t', 'c-built', file('steal')), 'needs a name that begins with a-');
    await output(imagesA('build', '-t', 'a-built', file('steal')));
    expect(await output(imagesA('run', '--rm', 'a-built', 'cat', '/by'))).toBe('built');
    const events = [
      'events',
      '--since',
      '10m',
      '--until',
      '0s',
      '--filter',
      'type=image',
      '--format',
      '{{.Action}} {{.Actor.Attributes.name}}',
    ];
    let told = '';
    // The CLI's "now" is the second that has begun: what happened in it comes with the next.
    await waitFor(async () => {
      told = await output(imagesA(...events));
      return told.includes('tag a-built:latest');
    });
    expect(told).not.toContain('b-secret');
    const usage = await output(as(4005, 'curl', '-s', '--unix-socket', host.socketPath, 'http://d/system/df?type=image'));
    expect(usage).toContain('a-built');
    expect(usage).not.toContain('b-secret');
  });

  it('under a prefix that reaches into the tag are built, pushed, pulled and removed', async () => {
    await stack.host.mustDocker('tag', stack.busybox, 'a-base');
    const name = `${stack.registry.address}/team:1`;
    mkdirSync(file('steps'));
    // Each step stands on the image of the one before, which has no name.
    writeFileSync(file('steps/Dockerfile'), 'FROM a-base\nRUN echo one > /one\nRUN cat /one > /two\n');
    await output(tagsA('build', '-t', name, file('steps')));
    await output(tagsA('push', name));
    expect(await output(tagsA('rmi', name))).toContain('Deleted: sha256:');
    await output(tagsA('pull', '-q', name));
    expect(await output(tagsA('run', '--rm', name, 'cat', '/two'))).toBe('one');
    const digest = await output(tagsA('image', 'inspect', '--format', '{{index .RepoDigests 0}}', name));
    await output(tagsA('rmi', name));
    await output(tagsA('pull', '-q', digest));
    expect(await output(tagsA('rmi', digest))).toContain('Deleted: sha256:');
  });

  it('without a name are for those whom their labels allow', async () => {
    const { host } = stack;
    await host.mustDocker('create', '--name', 'nameless', stack.busybox);
    const secret = await host.mustDocker('commit', 'nameless');
    for (const args of [
      ['image', 'inspect', secret],
      ['tag', secret, 'a-taken'],
      ['create', secret],
      ['rmi', secret],
    ]) {
      await refused(imagesA(...args), 'o such image');
    }
    const labelled = await host.mustDocker('commit', '--change', 'LABEL team=a', 'nameless');
    expect(await output(imagesA('image', 'inspect', '--format', '{{.Id}}', labelled))).toBe(labelled);
    await output(imagesA('rmi', labelled));
    await host.mustDocker('rmi', secret);
  });

  it('are refused before the work where nothing could allow their name', async () => {
    const { host } = stack;
    const words = 'an image of yours needs a name that begins with a-';
    await host.mustDocker('tag', stack.busybox, 'a-base');
    mkdirSync(file('never'));
    writeFileSync(file('never/Dockerfile'), 'FROM a-base\nRUN echo never\n');
    const built = tagsA('build', '-t', 'c-built', file('never'));
    await refused(built, words);
    expect((await built).stdout).not.toContain('Step 1');
    await host.mustDocker('create', '--name', 'unnamed', stack.busybox);
    await refused(tagsA('commit', 'unnamed', 'c-commit'), words);
    // What is uploaded is not looked at.
    await refused(tagsA('import', file('policy.json'), 'c-import'), words);
    // Labels are known with the configuration, before any layer.
    const reference = await stack.push(assembleImage([await buildLayer([{ path: 'only', content: 'here' }])]), 'unlabelled');
    const pulled = imagesA('pull', reference);
    await refused(pulled, words);
    expect((await pulled).stdout).not.toContain('Pulling fs layer');
  });
});

describe('builds', () => {
  const folder = (name: string, dockerfile: string): string => {
    mkdirSync(file(name));
    writeFileSync(file(`${name}/Dockerfile`), dockerfile.replaceAll('BUSYBOX', stack.busybox));
    return file(name);
  };
  const links = 'FROM BUSYBOX\nRUN ls /sys/class/net > /links\nCMD ["cat", "/links"]\n';

  it('of the classic API: what the steps may have is what the builder of the image may have', async () => {
    const context = folder('classic', links);
    for (const flags of [
      ['--network', 'host'],
      ['--cgroup-parent', '/elsewhere'],
    ]) {
      await refused(operator('build', '--no-cache', ...flags, context), 'user 4004 (role operator) may not ask for');
    }
    const own = await output(operator('build', '-q', '--no-cache', context));
    expect(await output(operator('run', '--rm', own))).toBe('eth0\nlo');
    // Who may do all gets all, in steps too: they run in his name.
    const hosts = await output(as(0, 'docker', 'build', '-q', '--no-cache', '--network', 'host', context));
    expect(await stack.host.mustDocker('run', '--rm', hosts)).toContain('docker0');
  });

  it('are marked by a label that no client can give, nor an image', async () => {
    const { stderr } = await operator('create', '--label', 'com.flotilla.build=x', '--pid', 'container:other', stack.busybox);
    expect(stderr).toContain('the label com.flotilla.build is reserved for steps of builds');
    const context = folder('marked', 'FROM BUSYBOX\nLABEL com.flotilla.build=x kept=y\n');
    const image = await output(operator('build', '-q', context));
    const made = await output(operator('create', image));
    expect(await stack.host.mustDocker('inspect', '-f', '{{json .Config.Labels}}', made)).toBe('{"kept":"y"}');
    await output(operator('rm', made));
  });

  it('by BuildKit: entitlements are no way around', { timeout: 300_000 }, async () => {
    await addDockerPlugins(stack.host);
    const context = folder('buildkit', links);
    const insecure = folder('insecure', 'FROM BUSYBOX\nRUN --security=insecure grep CapEff /proc/self/status > /caps\n');
    const ci = (...args: string[]): Promise<CommandResult> => overTls('ci', 'buildx', 'build', '--no-cache', '--progress=plain', ...args);
    await refused(
      ci('--allow', 'network.host', '--network', 'host', context),
      "certificate ci (role operator) may not ask for the host's namespaces",
    );
    const inFile = folder('in-file', 'FROM BUSYBOX\nRUN --network=host true\n');
    await refused(ci('--allow', 'network.host', inFile), "may not ask for the host's namespaces");
    expect((await ci('--allow', 'security.insecure', insecure)).code).not.toBe(0);
    await output(ci('-t', 'by-ci', context));
    expect(await stack.host.mustDocker('run', '--rm', 'by-ci')).toBe('eth0\nlo');
    // What the builder itself mounts in a step is none of the host's mounts.
    const mounting = folder(
      'mounting',
      'FROM BUSYBOX\nRUN --mount=type=cache,target=/c echo kept > /c/x && cp /c/x /x\nRUN <<EOF\ncat /x > /y\nEOF\n',
    );
    await output(ci('-t', 'with-mounts', mounting));
    expect(await stack.host.mustDocker('run', '--rm', 'with-mounts', 'cat', '/y')).toBe('kept');
    await stack.host.mustDocker('buildx', 'build', '--no-cache', '--allow', 'network.host', '--network', 'host', '-t', 'by-root', context);
    expect(await stack.host.mustDocker('run', '--rm', 'by-root')).toContain('docker0');
    await stack.host.mustDocker('tag', stack.busybox, 'a-base');
    const steps = folder('own-names', 'FROM a-base\nRUN echo one > /one\nRUN cat /one > /two\n');
    const tagger = (...args: string[]): Promise<CommandResult> => overTls('tagger', 'buildx', 'build', '--progress=plain', ...args);
    const stranger = tagger('-t', 'a-first', '-t', 'c-second', steps);
    await refused(stranger, 'an image of yours needs a name that begins with a-');
    expect((await stranger).stderr).not.toContain('RUN echo one');
    await output(tagger('-t', 'a-first', steps));
    expect(await output(overTls('tagger', 'run', '--rm', 'a-first', 'cat', '/two'))).toBe('one');
    await stack.host.mustDocker('builder', 'prune', '-af');
  });
});

describe('the policy file', () => {
  it('is read again when it changes; a wrong one leaves the one before in force', async () => {
    writePolicy('{"identities": [');
    await waitFor(async () => (await stack.host.stackLogs()).includes('the policy before stays in force'), { timeoutMs: 60_000 });
    expect((await viewer('ps')).code).toBe(0);
    writePolicy({ ...policy, identities: policy.identities.slice(1) });
    await waitFor(async () => (await viewer('ps')).code !== 0, { timeoutMs: 60_000 });
    await refused(viewer('ps'), 'the policy gives user 4001 no role');
  }, 150_000);
});

describe('the audit log', () => {
  it('says who did what to what with which result, and no secret', async () => {
    await stack.host.docker('run', '--rm', '-e', 'PASSWORD=hunter2', '--name', 'a-secret', stack.busybox, 'true');
    const entries = readFileSync(file('audit.log'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(entries).toContainEqual(
      expect.objectContaining({
        operation: 'ContainerCreate',
        identity: { kind: 'user', name: '4001', uid: 4001 },
        status: 403,
        requestId: expect.stringMatching(/^[0-9a-f]{16}$/),
      }),
    );
    expect(entries).toContainEqual(
      expect.objectContaining({ operation: 'ContainerCreate', identity: { kind: 'certificate', name: 'ci' }, status: 201 }),
    );
    expect(entries).toContainEqual(expect.objectContaining({ operation: 'ContainerStop', object: 'b-web', status: 404 }));
    expect(readFileSync(file('audit.log'), 'utf8')).not.toContain('hunter2');
    expect(statSync(file('audit.log')).mode & 0o777).toBe(0o600);
  });
});
