/** Builds as most people start them: by buildx, which speaks BuildKit's protocol. podman does not serve it: its figure is missing. */
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linkDockerPlugins } from '@flotilla/testkit';
import type { Engine } from './engine.ts';
import type { Row, Setting } from './row.ts';
import { timed } from './statistics.ts';

const tag = 'bench-build';
const folders = 100;
const filesAFolder = 100;

/** A folder with `context`, and `docker`, the CLI's configuration with buildx in it. */
async function place(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'flotilla-bench-build-'));
  mkdirSync(join(folder, 'context'));
  await linkDockerPlugins(join(folder, 'docker'));
  return folder;
}

function build(engine: Engine, folder: string, ...args: string[]): Promise<void> {
  return engine.cli(['build', '-q', '-t', tag, ...args, join(folder, 'context')], { DOCKER_CONFIG: join(folder, 'docker') });
}

async function tenSteps(_engine: Engine, { image }: Setting): Promise<string[]> {
  const folder = await place();
  const steps = Array.from({ length: 5 }, (_, index) => `COPY file${index} /\nRUN cat /file${index} > /made${index}\n`);
  writeFileSync(join(folder, 'context/Dockerfile'), `FROM ${image}\n${steps.join('')}`);
  for (let index = 0; index < 5; index++) writeFileSync(join(folder, 'context', `file${index}`), `content ${index}\n`);
  return [folder];
}

async function manyFiles(engine: Engine, { image }: Setting): Promise<string[]> {
  const folder = await place();
  writeFileSync(join(folder, 'context/Dockerfile'), `FROM ${image}\nCOPY . /files\n`);
  for (let index = 0; index < folders; index++) {
    const files = join(folder, 'context', `folder${index}`);
    mkdirSync(files);
    for (let count = 0; count < filesAFolder; count++) writeFileSync(join(files, `file${count}`), `${index} ${count}\n`);
  }
  await build(engine, folder);
  return [folder];
}

async function clear(engine: Engine, _setting: Setting, [folder = '']: readonly string[]): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  await engine.call('DELETE', `/images/${tag}?force=1`, { anyStatus: true });
  await engine.call('POST', '/build/prune?all=1', { anyStatus: true });
}

export const buildRows: readonly Row[] = [
  {
    name: 'build 10 steps, cold, buildx',
    unit: 'ms',
    repeat: 3,
    before: tenSteps,
    measure: (engine, _setting, [folder = '']) => timed(() => build(engine, folder, '--no-cache')),
    after: clear,
  },
  {
    name: 'build 10 steps, cached, buildx',
    unit: 'ms',
    repeat: 5,
    before: async (engine, setting) => {
      const made = await tenSteps(engine, setting);
      await build(engine, made[0] ?? '');
      return made;
    },
    measure: (engine, _setting, [folder = '']) => timed(() => build(engine, folder)),
    after: clear,
  },
  {
    name: 'build, 10,000 files, cached, buildx',
    unit: 'ms',
    repeat: 3,
    before: manyFiles,
    measure: (engine, _setting, [folder = '']) => timed(() => build(engine, folder)),
    after: clear,
  },
  {
    name: 'build, 10,000 files, one changed, buildx',
    unit: 'ms',
    repeat: 3,
    before: manyFiles,
    measure: (engine, _setting, [folder = '']) => {
      appendFileSync(join(folder, 'context/folder1/file1'), 'more\n');
      return timed(() => build(engine, folder));
    },
    after: clear,
  },
];
