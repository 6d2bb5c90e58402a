/**
 * The Dockerfiles of `dockerfiles/`, each in the style of somebody else, built by us and by dockerd's classic builder into the same files and the
 * same configuration, with the same lines said. A folder is a context. `prepare.sh` makes what git does not keep; `Dockerfile.classic` says the same
 * as `Dockerfile` in words that the classic builder knows. All of them are built when FLOTILLA_SOAK is 1, a few that differ most otherwise; each by
 * buildx too, which must give what our classic builder gives.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { addDockerPlugins, type TestHost } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FileTree } from './fileTree.ts';
import { startDockerd } from './peer.ts';
import { useStack } from './stack.ts';
import { makeToolImages } from './toolImages.ts';

interface Built {
  readonly tree: FileTree;
  readonly config: Readonly<Record<string, unknown>>;
  readonly history: readonly string[];
  /** What the builder itself says, ids alike. */
  readonly lines: readonly string[];
}

interface Inspected {
  readonly Config: Readonly<Record<string, unknown>>;
  readonly Author: string;
  readonly Architecture: string;
  readonly Os: string;
  readonly GraphDriver: { readonly Data: { readonly LowerDir?: string; readonly UpperDir: string } };
}

const directory = join(import.meta.dirname, 'dockerfiles');
const isSoak = process.env.FLOTILLA_SOAK === '1';
const few = ['06-onbuild', '11-archives', '13-modes-and-attributes', '14-deletions', '17-quoting'];
const names = readdirSync(directory)
  .sort()
  .filter((name) => isSoak || few.includes(name));
/** What is given to `docker build` beside a context. */
const options: Readonly<Record<string, readonly string[]>> = {
  '07-arguments': ['--build-arg', 'FLAVOUR=given', '--build-arg', 'HTTP_PROXY=http://proxy.example', '--label', 'added=by the build'],
  '18-stages': ['--build-arg', 'RELEASE=edge', '--target', 'final'],
};
/** The parts of an image's configuration that a Dockerfile can set. */
const configFields = `Cmd Entrypoint Env ExposedPorts Healthcheck Labels OnBuild Shell StopSignal User Volumes WorkingDir`.split(' ');
/** Written at build time: everything later than the files that Dockerfiles bring along. */
const longAgo = Date.parse('2021-01-01') / 1000;

const stack = useStack();
let peer: TestHost;

beforeAll(async () => {
  peer = await startDockerd();
  await stack.host.mustDocker('tag', stack.busybox, 'busybox');
  await addDockerPlugins(stack.host);
  if (isSoak) await makeToolImages(stack.host);
  const archive = join(stack.host.filesDirectory, 'bases.tar');
  await stack.host.mustDocker('save', '-o', archive, 'busybox', ...(isSoak ? ['toolchain', 'nodejs'] : []));
  await peer.mustDocker('load', '-q', '-i', archive);
  rmSync(archive);
}, 300_000);
afterAll(async () => {
  await stack.host.mustDocker('builder', 'prune', '-af');
  await peer?.dispose();
});

function prepared(name: string): string {
  const context = join(stack.host.filesDirectory, name);
  cpSync(join(directory, name), context, { recursive: true });
  if (existsSync(join(context, 'prepare.sh')))
    execFileSync('sh', ['-ec', 'PATH=$PATH:/usr/sbin; umask 022; . ./prepare.sh'], { cwd: context });
  execFileSync('find', [context, '-exec', 'touch', '-h', '-d', '2020-01-01', '{}', '+']);
  return context;
}

async function built(
  host: TestHost,
  name: string,
  context: string,
  dockerfile: string,
  by: 'classic' | 'buildx' = 'classic',
): Promise<Built> {
  const own = by === 'classic' ? [] : ['--no-cache'];
  const args = ['--network', 'none', '-t', name, '-f', dockerfile, ...own, ...(options[name] ?? []), '.'];
  const { code, stdout, stderr } = await host.dockerWith(
    { cwd: context, env: by === 'classic' ? { DOCKER_BUILDKIT: '0' } : {}, timeoutMs: 240_000 },
    'build',
    ...args,
  );
  if (code !== 0) throw new Error(`${host.name}: ${stdout}${stderr}`);
  const [image] = JSON.parse(await host.mustDocker('image', 'inspect', name)) as Inspected[];
  if (image === undefined) throw new Error(`${host.name} has no ${name}`);
  const history = await host.mustDocker('history', '--no-trunc', '--format', '{{.CreatedBy}}', name);
  const { Config, Author, Architecture, Os } = image;
  return {
    tree: await treeOf(host, image),
    // What is absent, null or empty says the same.
    config: {
      ...Object.fromEntries(configFields.flatMap((field) => (isEmpty(Config[field]) ? [] : [[field, Config[field]]]))),
      Author,
      Architecture,
      Os,
    },
    history: history.split('\n').map(plainHistory),
    // The client's own progress comes before, without an end of line.
    lines: stdout
      .slice(stdout.indexOf('Step 1/'))
      .replace(/\b[0-9a-f]{12}\b/g, 'ID')
      // The words of dockerd 20.
      .replace(/^Removing intermediate/gm, ' ---> Removed intermediate')
      .split(/[\r\n]+/)
      .filter((line) => /^(Step | ---> |# Executing|Successfully |Note: |\[Warning\])/.test(line)),
  };
}

/** Without digests of copied files, which are each builder's own, and without `--start-interval`, which this dockerd does not know. */
function plainHistory(line: string): string {
  return line.replace(/(file|dir|multi):[0-9a-f]{64}/g, 'content').replace(/(HEALTHCHECK &\{.*?\] (?:"\w+" ){3})"0s" (?='\\x)/, '$1');
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === '' || (typeof value === 'object' && Object.keys(value).length === 0);
}

/** All layers of an image, mounted as its containers see them. */
async function treeOf(host: TestHost, { GraphDriver: { Data } }: Inspected): Promise<FileTree> {
  const lower = [Data.UpperDir, Data.LowerDir, join(host.filesDirectory, 'empty')].filter(Boolean).join(':');
  const program = join(import.meta.dirname, 'fileTree.ts');
  const mounted = join(host.filesDirectory, 'mounted');
  const script = `mkdir -p ${mounted} ${host.filesDirectory}/empty; mount -t overlay -o ro,lowerdir=${lower} overlay ${mounted}; ${process.execPath} ${program} ${mounted}; umount ${mounted}`;
  const [tree = {}] = JSON.parse(await host.sh(script, { timeoutMs: 60_000 })) as FileTree[];
  return Object.fromEntries(
    Object.entries(tree).map(([path, facts]) => [path, { ...facts, mtime: facts.mtime < longAgo ? facts.mtime : 0 }]),
  );
}

function withoutTimes(tree: FileTree): FileTree {
  return Object.fromEntries(Object.entries(tree).map(([path, facts]) => [path, { ...facts, mtime: 0 }]));
}

describe('the Dockerfile', () => {
  it.each(names)(
    '%s gives what dockerd makes of it',
    async (name) => {
      const context = prepared(name);
      const classic = existsSync(join(context, 'Dockerfile.classic')) ? 'Dockerfile.classic' : 'Dockerfile';
      const isClassic = classic === 'Dockerfile';
      const [ours, theirs] = await Promise.all([built(stack.host, name, context, 'Dockerfile'), built(peer, name, context, classic)]);
      // Files that a Dockerfile holds itself are as old as the build.
      expect(isClassic ? ours.tree : withoutTimes(ours.tree)).toEqual(isClassic ? theirs.tree : withoutTimes(theirs.tree));
      expect(ours.config).toEqual(theirs.config);
      if (isClassic) {
        expect(ours.history).toEqual(theirs.history);
        // dockerd builds stages that nobody needs, too.
        if (name !== '18-stages') expect(ours.lines).toEqual(theirs.lines);
      }
      const { lines: _lines, ...byBuildx } = await built(stack.host, name, context, 'Dockerfile', 'buildx');
      const { lines: _own, ...byClassic } = ours;
      // Directories that the classic client leaves out, but for what is in them, are as old as the build.
      expect({ ...byBuildx, tree: withoutTimes(byBuildx.tree) }).toEqual({ ...byClassic, tree: withoutTimes(byClassic.tree) });
      rmSync(context, { recursive: true });
    },
    300_000,
  );
});
