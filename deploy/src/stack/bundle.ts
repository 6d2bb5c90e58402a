/**
 * One file of JavaScript in place of the hundreds that a program imports: for a program whose memory counts. Every module that Node loads costs it the text with
 * comments and types, a record of imports and exports, and compiled code of its own; in one file without comments, and without what nobody uses, the five
 * services stand at two thirds of that.
 *
 * Made when it is first asked for and whenever a source has changed, beside the checkout: <checkout>/.cache/bundle/<digest of the sources>/<name>.mjs.
 */
import { createHash } from 'node:crypto';
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import type { Plugin } from 'rolldown';
import { own } from './directories.ts';
import { codeRoot } from './paths.ts';

const root = `${codeRoot}/.cache/bundle`;
const sources = ['packages/*/src/**/*.ts', 'services/*/src/**/*.ts', 'deploy/src/**/*.ts', 'package-lock.json'];
/** Native code, and what is loaded only where it is needed. */
const outside = [/^koffi$/, /^node-unix-socket$/, /^re2js$/, /^iconv-lite$/, /^protobufjs/, /^@grpc\/proto-loader$/];
/** The latest, and those that a process runs from: a stack starts its process again, and loads what it seldom needs, from the bundle it was planned with. */
const kept = 8;

/**
 * The bundle of the program whose main file is `main`, relative to the checkout.
 *
 * @returns where it is, relative to the checkout; `main` itself where nothing can be written or the bundler is missing.
 */
export async function bundleOf(main: string, name: string, warn: (line: string) => void): Promise<string> {
  try {
    const directory = join(root, digestOfSources());
    const file = join(directory, `${name}.mjs`);
    if (existsSync(file)) utimesSync(directory, new Date(), new Date());
    else await build(join(codeRoot, main), file);
    removeOld();
    return relative(codeRoot, file);
  } catch (error) {
    warn(`${name} runs from its sources and takes more memory: ${error instanceof Error ? error.message : String(error)}`);
    return main;
  }
}

function digestOfSources(): string {
  const hash = createHash('sha256').update(process.version);
  const paths = globSync(sources, { cwd: codeRoot }).sort();
  for (const path of paths) {
    const { size, mtimeMs } = statSync(join(codeRoot, path));
    hash.update(`${path} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 16);
}

async function build(main: string, file: string): Promise<void> {
  for (const directory of [dirname(root), root]) own(directory, 0o755, 0, 0);
  const { rolldown } = await import('rolldown');
  const directory = dirname(file);
  const bundle = await rolldown({
    input: main,
    platform: 'node',
    external: outside,
    plugins: [placesOfSources(main, directory), dataAsText],
    logLevel: 'silent',
  });
  const { output } = await bundle.generate({
    format: 'esm',
    comments: false,
    minify: { compress: false, mangle: { keepNames: true } },
    entryFileNames: basename(file),
    // What is loaded only where it is needed stays a file of its own.
    chunkFileNames: `${basename(file, '.mjs')}-[name]-[hash].mjs`,
  });
  await bundle.close();
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  // Two stacks may start at once; whoever is last has written the same. The main file comes last: where it is, the others are.
  const made = mkdtempSync(`${directory}/.new-`);
  for (const chunk of output.toReversed()) {
    if (chunk.type !== 'chunk') continue;
    writeFileSync(join(made, chunk.fileName), asciiOnly(chunk.code), { mode: 0o644 });
    renameSync(join(made, chunk.fileName), join(directory, chunk.fileName));
  }
  rmSync(made, { recursive: true });
}

/** Modules go on finding files beside their sources, and only the program's main file is one that was started. */
function placesOfSources(main: string, directory: string): Plugin {
  return {
    name: 'places of sources',
    transform: {
      filter: { id: /^\//, code: /import\.meta\.(?:url|main)/ },
      handler: (code, id) =>
        code
          .replaceAll('import.meta.url', `new URL(${JSON.stringify(relative(directory, id))}, import.meta.url).href`)
          .replaceAll('import.meta.main', id === main ? 'true' : 'false'),
    },
  };
}

/** What a module has as JSON (tables of media types, say) is parsed when it is first asked for: as code, its compiled form would stay beside the objects. */
const dataAsText: Plugin = {
  name: 'data as text',
  load: {
    filter: { id: /^\/.*\.json$/ },
    handler: (id) => ({ code: `module.exports = JSON.parse(${JSON.stringify(readFileSync(id, 'utf8'))});`, moduleType: 'js' }),
  },
};

/** V8 keeps a text with a single character outside of Latin-1 at two bytes a character. */
function asciiOnly(code: string): string {
  return code.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function removeOld(): void {
  const byAge = readdirSync(root)
    // A second `up` may be at it, too.
    .map((name) => ({ name, usedMs: statSync(join(root, name), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.usedMs - a.usedMs);
  const old = byAge.slice(kept);
  if (old.length === 0) return;
  const running = commandLines();
  for (const { name } of old.filter(({ name }) => !running.some((line) => line.includes(`/bundle/${name}/`))))
    rmSync(join(root, name), { recursive: true, force: true });
}

/** Of all processes. */
function commandLines(): string[] {
  return globSync('/proc/[0-9]*/cmdline').flatMap((path) => {
    try {
      return [readFileSync(path, 'utf8')];
    } catch {
      // It has ended.
      return [];
    }
  });
}
