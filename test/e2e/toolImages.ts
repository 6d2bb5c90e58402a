/** Images of the machine's own programs, on busybox, so that builds can compile and run node without a registry of the internet. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import type { TestHost } from '@flotilla/testkit';

const shell = (script: string): string[] =>
  execFileSync('sh', ['-ec', script], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
    .split('\n')
    .filter(Boolean);

/** Programs with the libraries they load, by the paths they have here. */
function withLibraries(programs: readonly string[]): string[] {
  return [...programs, ...shell(`ldd ${programs.join(' ')} 2> /dev/null | grep -o '/[^ ]*' | grep -v ':$' | sort -u || true`)];
}

/** Debian's gcc, binutils, make and what static C programs need to be compiled and linked. */
function compiler(): string[] {
  const [gccDirectory = ''] = shell('dirname "$(gcc -print-libgcc-file-name)"');
  const [cc1 = ''] = shell('gcc -print-prog-name=cc1');
  const [collect2 = ''] = shell('gcc -print-prog-name=collect2');
  const programs = ['gcc', 'as', 'ld', 'strip', 'make'].flatMap((name) => shell(`command -v ${name}`));
  const library = (name: string): string[] => shell(`gcc -print-file-name=${name}`);
  return [
    ...withLibraries([...programs, cc1, collect2]),
    ...['crt1.o', 'crti.o', 'crtn.o', 'libc.a'].flatMap(library),
    ...shell(`find ${gccDirectory}/include ${gccDirectory}/crt*.o ${gccDirectory}/libgcc*.a ${gccDirectory}/liblto_plugin.so -type f`),
    ...shell('dpkg -L libc6-dev linux-libc-dev | grep ^/usr/include | while read -r path; do [ -d "$path" ] || echo "$path"; done'),
  ];
}

/** Makes `toolchain` and `nodejs` from the image `busybox` of a host. */
export async function makeToolImages(host: TestHost): Promise<void> {
  await makeImage(host, 'toolchain', compiler());
  await makeImage(host, 'nodejs', withLibraries([process.execPath]), `/usr/local/bin/node`);
}

async function makeImage(host: TestHost, name: string, files: readonly string[], firstAs?: string): Promise<void> {
  const root = join(host.filesDirectory, name);
  const list = `${root}.list`;
  writeFileSync(list, [...new Set((firstAs === undefined ? files : files.slice(1)).map(normalize))].join('\n'));
  const place = firstAs === undefined ? '' : `install -D ${files[0]} ${root}${firstAs};`;
  await host.sh(
    `mkdir ${root}; ${place} tar -C / -chPf - -T ${list} --transform 's,^/,,' | tar -C ${root} -xf -; printf 'FROM busybox\\nCOPY . /\\n' | docker build -q -t ${name} -f - ${root}; rm -r ${root}`,
    { env: { ...host.dockerEnvironment, DOCKER_BUILDKIT: '0' } },
  );
}
