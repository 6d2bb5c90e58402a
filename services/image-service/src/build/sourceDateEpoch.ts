/**
 * SOURCE_DATE_EPOCH: builds that give the same image whenever they are done, but for what RUN writes. What a build makes gets that one time: its entries in the
 * history, the image, the files that COPY, ADD and WORKDIR make. What a command writes in RUN is the command's own.
 *
 * @see reproducible-builds.org/specs/source-date-epoch
 */
import { lstatSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import { digestOf } from '@flotilla/oci';
import { lutimesNs } from '@flotilla/syscalls';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import { Turns } from '../turns.ts';
import { BuildCache } from './cache.ts';
import type { BuildOptions } from './options.ts';

/** The year 9999, in which the times that images hold end. */
const lastSecond = 253_402_300_799;
const firstSecond = -62_135_596_800;

/** @returns seconds; undefined for nothing. @throws InvalidParameter in BuildKit's words. */
export function readEpoch(text: string): number | undefined {
  if (text === '') return undefined;
  const seconds = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  if (seconds >= firstSecond && seconds <= lastSecond) return seconds;
  const why = Number.isNaN(seconds) ? 'invalid syntax' : 'value out of range';
  throw new InvalidParameter(`invalid SOURCE_DATE_EPOCH: ${text}: strconv.ParseInt: parsing ${JSON.stringify(text)}: ${why}`);
}

/** As a step takes it, nanoseconds. */
export function epochOf({ sourceDateEpoch }: Pick<BuildOptions, 'sourceDateEpoch'>): { readonly epochNs?: bigint } {
  return sourceDateEpoch === undefined ? {} : { epochNs: BigInt(sourceDateEpoch) * 1_000_000_000n };
}

/** Gives what is below a directory, and is later than the epoch, the epoch's time: directories whose content a step has changed have the clock's. */
export async function limitTimes(directory: string, latestNs: bigint, signal: AbortSignal): Promise<void> {
  const turns = new Turns();
  const pending = [directory];
  for (let current = pending.pop(); current !== undefined; current = pending.pop()) {
    for (const entry of await readdir(current, { withFileTypes: true })) {
      await turns.pass();
      signal.throwIfAborted();
      const path = join(current, entry.name);
      if (entry.isDirectory()) pending.push(path);
      if (lstatSync(path, { bigint: true }).mtimeNs > latestNs) lutimesNs(path, latestNs, latestNs);
    }
  }
}

export interface DatedImage {
  readonly store: ImageStore;
  readonly cache: BuildCache;
  readonly image: Image;
  /** How many entries of its history are not this build's. */
  readonly inherited: number;
  readonly epoch: number;
}

/**
 * The same image as if it had been made at the epoch. Steps keep their own times, so that builds with another epoch find them in the cache; what is made here is
 * an entry of the cache like they are.
 */
export async function atEpoch({ store, cache, image, inherited, epoch }: DatedImage): Promise<Image> {
  const { history, ...rest } = JSON.parse(image.record.config) as { history: { created?: string }[] };
  if (history.length <= inherited) return image;
  const created = new Date(epoch * 1000).toISOString().replace('.000Z', 'Z');
  const dated = history.map((entry, index) => (index < inherited ? entry : { ...entry, created }));
  const config = JSON.stringify({ ...rest, created, history: dated });
  const id = digestOf(config);
  if (id === image.id) return image;
  await store.content.writeBlob(id, Buffer.from(config));
  const { parent, cacheOnly } = image.record;
  const made = await store.register({
    id,
    config,
    references: [],
    manifests: [],
    layers: image.layers.flatMap((diffId) => store.layers.get(diffId) ?? []),
    cacheOnly: cacheOnly === true,
    ...(parent === undefined ? {} : { parent }),
    events: () => [],
  });
  const description = image.config.history.at(-1)?.created_by ?? '';
  await cache.remember(BuildCache.key(['epoch', image.id, epoch]), made, description, 0);
  return made;
}
