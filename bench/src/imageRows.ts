/** Rows of images: whole ones in and out, as archives and by a registry. */
import { buildImage, busyboxLayer, dockerArchive, startRegistry } from '@flotilla/testkit';
import type { Engine } from './engine.ts';
import { hostOf, type Row, type Setting } from './row.ts';
import { timed } from './statistics.ts';

const manyFilesTag = 'flotilla-bench-files:latest';
const files = 10_000;

let archiveOfFiles: Promise<Buffer> | undefined;
function manyFiles(): Promise<Buffer> {
  archiveOfFiles ??= (async () => {
    const layer = Array.from({ length: files }, (_, index) => ({ path: `files/${index % 100}/${index}`, content: `content ${index}\n` }));
    const image = await buildImage({ layers: [busyboxLayer(), layer], config: { Cmd: ['sh'] } });
    return dockerArchive([{ image, tags: [manyFilesTag] }]);
  })();
  return archiveOfFiles;
}

const load = (engine: Engine, archive: Buffer): Promise<unknown> => engine.call('POST', '/images/load?quiet=1', { body: archive });
const remove = (engine: Engine, reference: string): Promise<unknown> => engine.call('DELETE', `/images/${reference}?force=1`);

async function loaded(engine: Engine, { large }: Setting): Promise<string[]> {
  await load(engine, large.archive);
  return [large.tag];
}

export const imageRows: readonly Row[] = [
  {
    name: 'load',
    unit: 'MB/s',
    repeat: 3,
    measure: async (engine, { large }) => {
      const ms = await timed(() => load(engine, large.archive));
      await remove(engine, large.tag);
      return large.bytes / 1000 / ms;
    },
  },
  {
    name: 'load, 10,000 files in a layer',
    unit: 'ms',
    repeat: 3,
    measure: async (engine) => {
      const archive = await manyFiles();
      const ms = await timed(() => load(engine, archive));
      await remove(engine, manyFilesTag);
      return ms;
    },
  },
  {
    name: 'save',
    unit: 'MB/s',
    repeat: 3,
    before: loaded,
    measure: async (engine, { large }) => {
      let bytes = 0;
      const ms = await timed(async () => {
        bytes = await engine.drain(`/images/${large.tag}/get`);
      });
      return bytes / 1000 / ms;
    },
    after: (engine, { large }) => remove(engine, large.tag),
  },
  {
    name: 'push to an empty registry',
    unit: 'MB/s',
    repeat: 3,
    needs: 'host',
    before: loaded,
    measure: async (engine, { large }) => {
      const registry = await startRegistry({ place: hostOf(engine) });
      try {
        const target = `${registry.address}/pushed`;
        await engine.call('POST', `/images/${large.tag}/tag?repo=${target}&tag=latest`);
        const ms = await timed(() => engine.cli(['push', '-q', `${target}:latest`]));
        await engine.call('DELETE', `/images/${target}:latest`);
        return large.bytes / 1000 / ms;
      } finally {
        await registry.stop();
      }
    },
    after: (engine, { large }) => remove(engine, large.tag),
  },
  {
    name: 'pull',
    unit: 'MB/s',
    repeat: 3,
    needs: 'registry',
    measure: async (engine, { large, pullReference = '' }) => {
      const ms = await timed(() => engine.cli(['pull', '-q', pullReference]));
      await remove(engine, pullReference);
      return large.bytes / 1000 / ms;
    },
  },
];
