/** Programs and users that deploy/setup.sh brings. */
import { spawnSync } from 'node:child_process';
import { findAccount, findGroup } from '../stack/accounts.ts';
import { findProgram } from '../stack/programs.ts';
import { type Finding, missing, ok, warning } from './finding.ts';

const setup = 'run deploy/setup.sh';

interface Wanted {
  readonly name: string;
  /** Arguments that make it say its version. */
  readonly version: readonly string[];
  readonly needed: boolean;
  readonly why: string;
}

const wanted: readonly Wanted[] = [
  { name: 'conmon', version: ['--version'], needed: true, why: 'the parent of each container' },
  { name: 'crun', version: ['--version'], needed: false, why: 'the faster OCI runtime' },
  { name: 'runc', version: ['--version'], needed: true, why: 'the OCI runtime where crun does not work' },
  { name: 'nft', version: ['--version'], needed: true, why: 'NAT and published ports' },
  { name: 'redis-server', version: ['--version'], needed: true, why: "the services' records" },
  { name: 'nats-server', version: ['--version'], needed: true, why: 'events and heartbeats' },
  { name: 'setpriv', version: ['--version'], needed: true, why: 'takes rights off the services that speak to strangers' },
  { name: 'tar', version: ['--version'], needed: true, why: 'unpacks layers' },
  { name: 'busybox', version: [], needed: false, why: 'the hello-world image, and docker cp into running containers' },
  { name: 'xz', version: ['--version'], needed: false, why: 'images and build contexts in xz' },
  { name: 'git', version: ['--version'], needed: false, why: 'docker build from a git address' },
  { name: 'docker', version: ['--version'], needed: false, why: 'the docker CLI; any client of the Engine API does' },
];

export function checkPrograms(): Finding[] {
  return wanted.map((program) => {
    const path = findProgram(program.name);
    if (path === undefined) return (program.needed ? missing : warning)(program.name, `not installed (${program.why})`, setup);
    if (program.version.length === 0) return ok(program.name, path);
    const output = spawnSync(path, program.version, { encoding: 'utf8', timeout: 5000 }).stdout ?? '';
    return ok(program.name, output.split('\n')[0]?.trim() ?? path);
  });
}

/** An init for `docker run --init`: either will do. */
export function checkInit(): Finding {
  const found = ['tini', 'catatonit'].find((name) => findProgram(name) !== undefined);
  return found === undefined ? warning('init', 'neither tini nor catatonit is installed (docker run --init)', setup) : ok('init', found);
}

export function checkAccounts(): Finding[] {
  const users = ['flotilla-gateway', 'flotilla-registry', 'redis', 'nats'].map((name) => {
    const account = findAccount(name);
    return account === undefined
      ? warning(`user ${name}`, 'there is none: its process runs as root', setup)
      : ok(`user ${name}`, `uid ${account.uid}`);
  });
  const gid = findGroup('docker');
  const group =
    gid === undefined
      ? warning('group docker', 'there is none: only root can use the socket', 'groupadd --system docker')
      : ok('group docker', `gid ${gid}`);
  return [...users, group];
}
