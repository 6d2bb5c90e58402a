/** How clients reach the engine, and how safely: the unix socket, TLS, ssh, contexts, and what is refused. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { type CommandResult, waitFor } from '@flotilla/testkit';
import { afterAll, describe, expect, it } from 'vitest';
import { engineApi } from './engineApi.ts';
import { useStack } from './stack.ts';

const directory = mkdtempSync(join(tmpdir(), 'flotilla-reach-'));
chmodSync(directory, 0o755);
const file = (name: string): string => join(directory, name);
const openssl = (...args: string[]): Buffer => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
const address = '127.0.0.1:2376';

function makeCertificate(name: string, serial: string): void {
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key.new`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
  writeFileSync(file('extensions'), 'subjectAltName=IP:127.0.0.1\n');
  const signing = ['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-set_serial', serial, '-days', '2'];
  openssl(...signing, '-extfile', 'extensions', '-out', `${name}.pem.new`);
  for (const kind of ['key', 'pem']) renameSync(file(`${name}.${kind}.new`), file(`${name}.${kind}`));
}
openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test ca', '-days', '2');
openssl(
  'req',
  '-x509',
  '-newkey',
  'rsa:2048',
  '-nodes',
  '-keyout',
  'other.key',
  '-out',
  'other.pem',
  '-subj',
  '/CN=other ca',
  '-days',
  '2',
);
makeCertificate('server', '0x1001');
makeCertificate('client', '0x2001');

const tls = ['--tlsverify', '--tlscacert', file('ca.pem'), '--tlscert', file('server.pem'), '--tlskey', file('server.key')];
const stack = useStack({ stack: { args: ['-H', `tcp://${address}`, ...tls] } });
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const curl = (...args: string[]): Promise<CommandResult> => stack.host.run('curl', ['-sS', '--max-time', '20', ...args]);
const certificate = ['--cert', file('client.pem'), '--key', file('client.key')];
const clientTls = ['--tlsverify', '--tlscacert', file('ca.pem'), '--tlscert', file('client.pem'), '--tlskey', file('client.key')];

describe('the unix socket', () => {
  it('belongs to root and the group docker, and to nobody else', () => {
    const { uid, gid, mode } = statSync(stack.host.socketPath);
    const group = Number(execFileSync('getent', ['group', 'docker'], { encoding: 'utf8' }).split(':')[2]);
    expect({ uid, gid, mode: (mode & 0o777).toString(8) }).toEqual({ uid: 0, gid: group, mode: '660' });
  });

  it('refuses a user outside of the group', async () => {
    const stranger = ['--reuid', '4009', '--regid', '4009', '--clear-groups'];
    const answer = await stack.host.run('setpriv', [...stranger, 'curl', '-sS', '--unix-socket', stack.host.socketPath, 'http://d/_ping']);
    expect(answer).toMatchObject({ code: 7, stdout: '' });
  });

  it('refuses documents that are too large, before they are read whole', async () => {
    const body = `{"Image":"${'x'.repeat(5 * 1024 * 1024)}"}`;
    const answer = await engineApi(stack.host, 'POST', '/containers/create', { body });
    expect([answer.status, answer.message]).toEqual([400, 'http: request body too large']);
  });
});

describe('tcp', () => {
  it('is refused without TLS, unless one says that it is insecure', async () => {
    const up = await stack.host.flotilla('up', '-H', 'tcp://127.0.0.1:2375').catch((error: Error) => error);
    expect(String(up instanceof Error ? up.message : up.stderr)).toContain('without TLS gives root on this host to whoever reaches it');
  });

  it('takes clients with a certificate of the CA, and no others', async () => {
    const url = `https://${address}/_ping`;
    expect(await curl('--cacert', file('ca.pem'), ...certificate, url)).toMatchObject({ code: 0, stdout: 'OK' });
    expect((await curl('--cacert', file('ca.pem'), url)).code).not.toBe(0);
    expect((await curl('--cacert', file('ca.pem'), '--cert', file('other.pem'), '--key', file('other.key'), url)).code).not.toBe(0);
    expect((await curl(`http://${address}/_ping`)).stdout).not.toBe('OK');
    expect(await stack.host.docker('-H', `tcp://${address}`, ...clientTls, 'ps', '-q')).toMatchObject({ code: 0 });
  });

  it('speaks TLS 1.2 and above', async () => {
    const hello = async (...versions: string[]): Promise<string> => {
      const keys = `-CAfile ${file('ca.pem')} -cert ${file('client.pem')} -key ${file('client.key')}`;
      const { stdout, stderr } = await stack.host.run('sh', [
        '-c',
        `openssl s_client -connect ${address} ${keys} ${versions.join(' ')} < /dev/null`,
      ]);
      return stdout + stderr;
    };
    expect(await hello('-tls1_2')).toContain('Verify return code: 0');
    expect(await hello('-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0')).toMatch(
      /alert protocol version|no protocols available|unsupported protocol/,
    );
  });

  it('shows a renewed certificate without a restart', async () => {
    const serial = async (): Promise<string> => {
      const keys = `-cert ${file('client.pem')} -key ${file('client.key')}`;
      return (
        await stack.host.run('sh', [
          '-c',
          `openssl s_client -connect ${address} ${keys} < /dev/null 2> /dev/null | openssl x509 -noout -serial`,
        ])
      ).stdout.trim();
    };
    expect(await serial()).toBe('serial=1001');
    makeCertificate('server', '0x1002');
    await waitFor(async () => (await serial()) === 'serial=1002', { timeoutMs: 60_000, what: 'the renewed certificate' });
    expect(await curl('--cacert', file('ca.pem'), ...certificate, `https://${address}/_ping`)).toMatchObject({ stdout: 'OK' });
  });
});

describe('contexts', () => {
  const docker = (...args: string[]): Promise<CommandResult> => {
    const { DOCKER_HOST: _host, ...env } = stack.host.dockerEnvironment;
    return stack.host.run('docker', args, { env });
  };

  it('by TLS: created, used, inspected, removed', async () => {
    const endpoint = `host=tcp://${address},ca=${file('ca.pem')},cert=${file('client.pem')},key=${file('client.key')}`;
    expect(await docker('context', 'create', 'by-tls', '--docker', endpoint)).toMatchObject({ code: 0 });
    expect((await docker('--context', 'by-tls', 'version', '--format', '{{.Server.Os}}')).stdout.trim()).toBe('linux');
    expect((await docker('--context', 'by-tls', 'run', '--rm', stack.busybox, 'echo', 'hello')).stdout).toBe('hello\n');
    expect((await docker('context', 'inspect', 'by-tls', '--format', '{{.Endpoints.docker.Host}}')).stdout.trim()).toBe(`tcp://${address}`);
    expect(await docker('context', 'rm', 'by-tls')).toMatchObject({ code: 0 });
  });
});

describe('ssh', () => {
  const port = '2222';

  /** An sshd inside of the test host, and an `ssh` that knows its keys. */
  async function startSshd(): Promise<void> {
    for (const key of ['hostkey', 'userkey']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(key)]);
    execFileSync('cp', [file('userkey.pub'), file('authorized')]);
    const settings = [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${file('hostkey')}`,
      `AuthorizedKeysFile ${file('authorized')}`,
      'StrictModes no',
      'PermitRootLogin yes',
      'UsePAM no',
      `PidFile ${file('sshd.pid')}`,
      `SetEnv DOCKER_HOST=unix://${stack.host.socketPath}`,
    ];
    writeFileSync(file('sshd_config'), `${settings.join('\n')}\n`);
    mkdirSync(file('bin'));
    // One connection for all that the CLI opens: a handshake each is slow on a loaded machine.
    const options = `-S ${file('master')} -i ${file('userkey')} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes`;
    writeFileSync(file('bin/ssh'), `#!/bin/sh\nexec /usr/bin/ssh ${options} "$@"\n`, { mode: 0o755 });
    // sshd wants its empty directory, and a shell of root's.
    await stack.host.sh(`mkdir -p /run/sshd; /usr/sbin/sshd -f ${file('sshd_config')}`);
    await waitFor(() => existsSync(file('sshd.pid')), { timeoutMs: 30_000, what: 'sshd' });
    await stack.host.sh(`${file('bin/ssh')} -M -f -N -p ${port} ${userInfo().username}@127.0.0.1 > /dev/null 2>&1`);
  }

  it('by docker system dial-stdio: run with input, and a stream', async () => {
    await startSshd();
    try {
      const env = {
        ...stack.host.dockerEnvironment,
        PATH: `${file('bin')}:${process.env.PATH}`,
        DOCKER_HOST: `ssh://${userInfo().username}@127.0.0.1:${port}`,
      };
      const docker = (...args: string[]): Promise<CommandResult> => stack.host.run('docker', args, { env });
      expect(await docker('version', '--format', '{{.Server.Os}}')).toMatchObject({ code: 0, stdout: 'linux\n' });
      const counted = await stack.host.run('docker', ['run', '-i', '--rm', stack.busybox, 'wc', '-c'], {
        env,
        input: 'y'.repeat(200_000),
        timeoutMs: 100_000,
      });
      expect(counted).toMatchObject({ code: 0, stdout: '200000\n' });
      await docker('run', '-d', '--name', 'by-ssh', stack.busybox, 'sh', '-c', 'echo one; sleep 1; echo two');
      expect((await docker('logs', '-f', 'by-ssh')).stdout).toBe('one\ntwo\n');
    } finally {
      await stack.host.sh(`${file('bin/ssh')} -O exit 127.0.0.1 || true; kill $(cat ${file('sshd.pid')})`);
    }
  }, 240_000);
});
