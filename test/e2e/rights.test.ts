/** Who may do what: users on the unix socket, certificates on TLS, a policy that changes while the stack runs, and the audit log. Real clients. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CommandResult, waitFor } from '@flotilla/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const directory = mkdtempSync(join(tmpdir(), 'flotilla-rights-'));
chmodSync(directory, 0o755);
const file = (name: string): string => join(directory, name);
const openssl = (...args: string[]): unknown => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });

openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test ca', '-days', '2');
for (const name of ['server', 'ci', 'stranger']) {
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
  writeFileSync(file('extensions'), 'subjectAltName=IP:127.0.0.1\n');
  const signing = ['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'];
  openssl(...signing, '-extfile', 'extensions', '-out', `${name}.pem`);
}

const policy = {
  identities: [
    { uid: 4001, role: 'viewer' },
    { uid: 4002, role: 'team-a' },
    { certificate: 'ci', role: 'operator' },
  ],
  roles: {
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
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', DOCKER_HOST: `unix://${socketPath}`, DOCKER_CONFIG: '/nonexistent' };
  return stack.host.run('setpriv', [...user, command, ...args], { env });
}
const viewer = (...args: string[]): Promise<CommandResult> => as(4001, 'docker', ...args);
const team = (...args: string[]): Promise<CommandResult> => as(4002, 'docker', ...args);
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
    await refused(team('container', 'prune', '-f'), 'a prune reaches beyond what is yours');
    await refused(team('export', 'web'), 'may not use ContainerExport');
    const events = await output(
      team('events', '--since', '5m', '--until', '0s', '--filter', 'type=container', '--format', '{{.Actor.Attributes.name}}'),
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
