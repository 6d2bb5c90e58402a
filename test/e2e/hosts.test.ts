/**
 * Many hosts through one gateway: a client that reaches `lab` alone works with the engine on `far` by `DOCKER_HOST=tcp://lab:2376/hosts/far`, over TLS on
 * both ways. Real docker CLI, streams and uploads included.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { busyboxImage, type CommandResult, createLab, type Lab, pushImage, startRegistry, type TestHost, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const directory = mkdtempSync(join(tmpdir(), 'flotilla-hosts-'));
chmodSync(directory, 0o755);
const file = (name: string): string => join(directory, name);
const openssl = (...args: string[]): unknown => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
const addresses = { lab: '198.18.0.10', far: '198.18.0.11' };
const image = '198.18.0.1:5000/busybox:latest';

let labNet: Lab;
let lab: TestHost;
let far: TestHost;

/** A CA, certificates of the two engines, of the lab's gateway as a client, and of three people. */
function makeCertificates(): void {
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test ca', '-days', '2');
  for (const name of ['lab', 'far', 'lab-gateway', 'boss', 'worker', 'watcher']) {
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    writeFileSync(file('extensions'), `subjectAltName=IP:${addresses[name as keyof typeof addresses] ?? '127.0.0.1'}\n`);
    const signing = ['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'];
    openssl(...signing, '-extfile', 'extensions', '-out', `${name}.pem`);
  }
}

function writeHosts(hosts: Record<string, object>): void {
  writeFileSync(file('hosts.new'), JSON.stringify({ hosts }));
  renameSync(file('hosts.new'), file('hosts.json'));
}

const credentials = { ca: file('ca.pem'), cert: file('lab-gateway.pem'), key: file('lab-gateway.key') };
const reachable = { url: `https://${addresses.far}:2376`, ...credentials };
const down = { url: `https://${addresses.far}:2399`, ...credentials };

function startEngine(host: TestHost, name: 'lab' | 'far', ...args: string[]): Promise<unknown> {
  const tls = ['--tlsverify', '--tlscacert', file('ca.pem'), '--tlscert', file(`${name}.pem`), '--tlskey', file(`${name}.key`)];
  const addressArgs = ['-H', `tcp://${addresses[name]}:2376`, ...tls, '--insecure-registry', '198.18.0.0/15'];
  return host.startStack({ args: [...addressArgs, ...args] });
}

/** The docker CLI on a machine that sees the lab's gateway and nothing else of its engines. */
function as(person: string, path: string, args: string[], options: { input?: string } = {}): Promise<CommandResult> {
  const tls = ['--tlsverify', '--tlscacert', file('ca.pem'), '--tlscert', file(`${person}.pem`), '--tlskey', file(`${person}.key`)];
  return labNet.outside.run('docker', ['-H', `tcp://${addresses.lab}:2376${path}`, ...tls, ...args], {
    ...options,
    env: { PATH: process.env.PATH, HOME: directory, DOCKER_CONFIG: file('docker'), DOCKER_BUILDKIT: '0' },
  });
}
const throughLab = (...args: string[]): Promise<CommandResult> => as('boss', '/hosts/far', args);

async function output(result: Promise<CommandResult>): Promise<string> {
  const { code, stdout, stderr } = await result;
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.any(String) });
  return stdout.trim();
}

beforeAll(async () => {
  makeCertificates();
  labNet = await createLab({ hosts: 2 });
  const [first, second] = labNet.hosts.map(({ host }) => host);
  if (first === undefined || second === undefined) throw new Error('the lab has two hosts');
  [lab, far] = [first, second];
  const registry = await startRegistry({ place: labNet.outside, host: labNet.outsideAddress, port: 5000 });
  labNet.outside.onDispose(() => registry.stop());
  await pushImage(await busyboxImage(), { address: registry.address, repository: 'busybox', tag: 'latest' }, labNet.outside);
  writeHosts({ far: reachable, gone: down });
  writeFileSync(
    file('policy.json'),
    JSON.stringify({
      identities: [
        { certificate: 'boss', role: 'admin' },
        { certificate: 'worker', role: 'operator' },
        { certificate: 'watcher', role: 'viewer' },
      ],
    }),
  );
  await Promise.all([
    startEngine(lab, 'lab', '--hosts-file', file('hosts.json'), '--policy-file', file('policy.json')),
    startEngine(far, 'far', '--label', 'which=far'),
  ]);
}, 240_000);

afterAll(async () => {
  await Promise.all([lab, far].map((host) => host?.flotilla('down').catch(() => {})));
  await labNet?.dispose();
  rmSync(directory, { recursive: true, force: true });
}, 120_000);

describe('another host through the lab’s gateway', () => {
  it('is the engine that answers', async () => {
    expect(await output(throughLab('info', '--format', '{{.Labels}}'))).toBe('[which=far]');
    expect(await output(throughLab('version', '--format', '{{.Server.Version}}'))).toContain('flotilla');
    expect(await output(as('boss', '', ['info', '--format', '{{.Labels}}']))).toBe('[]');
  });

  it('pull, run with standard input and exit code, terminal', async () => {
    await output(throughLab('pull', '-q', image));
    const counted = await as('boss', '/hosts/far', ['run', '-i', '--rm', image, 'sh', '-c', 'wc -c; exit 7'], {
      input: 'x'.repeat(300_000),
    });
    expect({ code: counted.code, out: counted.stdout.trim() }).toEqual({ code: 7, out: '300000' });
    // Standard input that never ends: `script` types a character at its end, which the terminal may still echo.
    const inTerminal = `mkfifo ${file('typed')} && exec script -qec "$0" /dev/null <> ${file('typed')}`;
    const tty = labNet.outside.run('sh', [
      '-c',
      inTerminal,
      dockerCommand('run', '--rm', '-it', image, 'sh', '-c', 'test -t 0 && echo a terminal'),
    ]);
    expect((await output(tty)).trim()).toBe('a terminal');
  });

  it('exec, logs -f, cp and events', async () => {
    await output(
      throughLab('run', '-d', '--name', 'talker', image, 'sh', '-c', 'echo one; while [ ! -e /go ]; do sleep 0.1; done; echo two'),
    );
    const followed = throughLab('logs', '-f', 'talker');
    expect(await output(throughLab('exec', 'talker', 'cat', '/etc/hostname'))).toMatch(/^[0-9a-f]{12}$/);
    writeFileSync(file('go'), 'gone');
    await output(throughLab('cp', file('go'), 'talker:/go'));
    expect(await output(followed)).toBe('one\ntwo');
    expect(await output(throughLab('wait', 'talker'))).toBe('0');
    await output(throughLab('cp', 'talker:/go', file('back')));
    expect(readFileSync(file('back'), 'utf8')).toBe('gone');
    const deaths = ['events', '--since', '10m', '--until', '0s', '--filter', 'event=die', '--format', '{{.Actor.Attributes.name}}'];
    // The CLI's "now" is the second that has begun: what happened in it comes with the next.
    await waitFor(async () => (await output(throughLab(...deaths))).includes('talker'));
    expect(await output(far.docker('ps', '-aq', '--filter', 'name=talker'))).not.toBe('');
    expect(await output(lab.docker('ps', '-aq'))).toBe('');
    await output(throughLab('rm', 'talker'));
  });

  it('build, with the upload of its context', async () => {
    mkdirSync(file('context'));
    writeFileSync(file('context/Dockerfile'), `FROM ${image}\nCOPY data /data\nRUN wc -c < /data > /size\nCMD cat /size\n`);
    writeFileSync(file('context/data'), Buffer.alloc(3 * 1024 * 1024, 'd'));
    await output(throughLab('build', '-q', '-t', 'built', file('context')));
    expect(await output(throughLab('run', '--rm', 'built'))).toBe(String(3 * 1024 * 1024));
  });
});

describe('rights, and hosts that are not there', () => {
  it('are listed, with those that do not answer', async () => {
    const answer = await labNet.outside.run('curl', [
      '-s',
      '--cacert',
      file('ca.pem'),
      '--cert',
      file('boss.pem'),
      '--key',
      file('boss.key'),
      `https://${addresses.lab}:2376/hosts`,
    ]);
    expect(JSON.parse(answer.stdout)).toEqual([
      { Name: 'far', Address: reachable.url, Up: true },
      { Name: 'gone', Address: down.url, Up: false, Error: expect.stringContaining('ECONNREFUSED') },
    ]);
  });

  it('a host that is down is a clear 502, an unknown one a 404', async () => {
    const gone = await as('boss', '/hosts/gone', ['ps']);
    expect(gone.stderr).toMatch(/host gone \(https:\/\/198\.18\.0\.11:2399\) cannot be reached: .*ECONNREFUSED/);
    expect((await as('boss', '/hosts/nowhere', ['ps'])).stderr).toContain('No such host: nowhere');
    const exec = await as('boss', '/hosts/gone', ['exec', 'x', 'true']);
    expect(exec.stderr).toContain('cannot be reached');
  });

  it('a viewer reads there, an operator does what holds no danger', async () => {
    expect(await output(as('watcher', '/hosts/far', ['image', 'ls', '-q']))).not.toBe('');
    expect((await as('watcher', '/hosts/far', ['rmi', 'built'])).stderr).toContain(
      'certificate watcher (role viewer) may not use ImageDelete',
    );
    expect(await output(as('worker', '/hosts/far', ['image', 'tag', 'built', 'again']))).toBe('');
    expect((await as('worker', '/hosts/far', ['create', image])).stderr).toContain('may not use ContainerCreate on host far');
  });

  it('the file is read again when it changes, and one that is wrong changes nothing', async () => {
    writeHosts({ far: { ...reachable, url: 'ftp://wrong' } });
    writeHosts({ later: reachable });
    await waitFor(async () => (await as('boss', '/hosts/later', ['ps'])).code === 0, { timeoutMs: 60_000, what: 'the new host' });
    expect((await throughLab('ps')).stderr).toContain('No such host: far');
  });
});

function dockerCommand(...args: string[]): string {
  const quoted = args.map((arg) => `'${arg}'`).join(' ');
  const tls = `--tlsverify --tlscacert ${file('ca.pem')} --tlscert ${file('boss.pem')} --tlskey ${file('boss.key')}`;
  return `docker -H tcp://${addresses.lab}:2376/hosts/far ${tls} ${quoted}`;
}
