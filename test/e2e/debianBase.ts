/**
 * A base for deploy/Dockerfile without a registry of the internet: what deploy/setup.sh installs of Debian, as this machine has it, and the packages of
 * package-lock.json as npm put them here.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, realpathSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { TestHost } from '@flotilla/testkit';

const repository = join(import.meta.dirname, '../..');
const busybox = '/bin/busybox';
/** Beside what setup.sh asks for: what it asks with, and a service's own helpers from packages named there. */
const helpers = ['getent', 'nsenter'];
const accounts = [
  'root:x:0:0::/root:/bin/sh',
  ...['redis', 'nats', 'flotilla-gateway', 'flotilla-registry'].map(
    (name, index) => `${name}:x:${900 + index}:${900 + index}::/nonexistent:/bin/false`,
  ),
];

const lines = (command: string, args: readonly string[]): string[] =>
  execFileSync(command, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
    .split('\n')
    .filter(Boolean);

/** The files that setup.sh's `need` looks for, up to those for an image alone and for tests. */
function wantedFiles(): string[] {
  const [always = ''] = readFileSync(join(repository, 'deploy/setup.sh'), 'utf8').split('\nif [ -n ');
  const wanted = [...always.matchAll(/^need \S+ (\S+) /gm)].map((match) => match[1] ?? '');
  return [...wanted, ...helpers].map((name) => (name.includes('/') ? `/${name}` : (lines('sh', ['-c', `command -v ${name}`])[0] ?? '')));
}

/** Files with the libraries that they, and `others`, load, and what links lead to, by the paths they have in a Debian whose /bin and /lib are links into /usr. */
function withLibraries(files: readonly string[], others: readonly string[]): string[] {
  const script = `ldd "$@" 2> /dev/null | grep -o '/[^ ]*' | grep -v ':$' | sort -u`;
  const all = [...files, ...lines('sh', ['-c', script, 'sh', ...files, ...others])];
  return [...new Set(all.map((path) => join(realpathSync(dirname(path)), basename(path))).flatMap((path) => [path, realpathSync(path)]))];
}

/** Directories of node_modules that are not for development alone. */
function packages(): string[] {
  const lock = JSON.parse(readFileSync(join(repository, 'node_modules/.package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const wanted = Object.entries(lock.packages).filter(
    ([path, { dev }]) => dev !== true && path.lastIndexOf('node_modules/') === path.indexOf('node_modules/'),
  );
  return [...wanted.map(([path]) => path).filter((path) => path.includes('node_modules/')), 'node_modules/.bin/node'];
}

/** Makes the image `name` on a host. */
export async function makeDebianBase(host: TestHost, name: string): Promise<void> {
  const stage = join(host.filesDirectory, name);
  const files = withLibraries(wantedFiles(), [process.execPath]);
  const present = new Set(files.map((path) => basename(path)));
  for (const directory of [
    'usr/bin',
    'usr/sbin',
    'usr/lib',
    'usr/lib64',
    'etc',
    'proc',
    'sys',
    'dev',
    'run',
    'tmp',
    'root',
    'var/lib',
    'opt/flotilla/node_modules',
  ]) {
    mkdirSync(join(stage, directory), { recursive: true });
  }
  for (const directory of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${directory}`, join(stage, directory));
  for (const applet of lines(busybox, ['--list'])) if (!present.has(applet)) symlinkSync('busybox', join(stage, 'usr/bin', applet));
  writeFileSync(join(stage, 'etc/passwd'), `${accounts.join('\n')}\n`);
  writeFileSync(join(stage, 'etc/group'), `docker:x:899:\n${accounts.map((line) => line.split(':').slice(0, 3).join(':')).join(':\n')}:\n`);
  writeFileSync(join(stage, 'etc/os-release'), readFileSync('/etc/os-release'));
  // npm's mark that the packages are those of the lock file, which the checkout may have touched since.
  const mark = join(stage, 'opt/flotilla/node_modules/.package-lock.json');
  copyFileSync(join(repository, 'node_modules/.package-lock.json'), mark);
  utimesSync(mark, new Date(), new Date());
  const [fileList, packageList] = [`${stage}.files`, `${stage}.packages`];
  writeFileSync(fileList, files.map((path) => path.slice(1)).join('\n'));
  writeFileSync(packageList, packages().join('\n'));
  const places = "--exclude=node_modules/node/node_modules --transform 's,^\\(deploy/\\|bench/\\)\\?node_modules,opt/flotilla/&,S'";
  const tar = `tar --owner=0 --group=0 ${places} -c -C ${stage} . -C / -T ${fileList} -C ${repository} -T ${packageList}`;
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  await host.sh(`${tar} | docker import --change 'ENV ${path}' - ${name}`, { env: host.dockerEnvironment });
  for (const made of [stage, fileList, packageList]) rmSync(made, { recursive: true });
}
