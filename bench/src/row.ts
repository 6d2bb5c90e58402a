/** What a row of the benchmark is, and the containers that rows measure with. */
import type { TestHost } from '@flotilla/testkit';
import type { Engine } from './engine.ts';
import { inParallel } from './statistics.ts';

/** Where a row finds what it needs. */
export interface Setting {
  /** A busybox image every engine has. */
  readonly image: string;
  /** A docker-archive of a large image and its size, bytes; its tag. */
  readonly large: { readonly archive: Buffer; readonly bytes: number; readonly tag: string };
  /** The large image's name in a registry that the engines reach; absent: the pull row is left out. */
  readonly pullReference?: string;
}

export interface Row {
  readonly name: string;
  readonly unit: 'ms' | '/s' | 'MB/s' | 'MiB';
  /** Repetitions an engine. */
  readonly repeat: number;
  /** `registry`: an image to pull; `host`: that the engine was started by the bench, in a host of its own. */
  readonly needs?: 'registry' | 'host';
  /** Done once an engine before measuring; what it gives is handed to `measure` and `after`. */
  readonly before?: (engine: Engine, setting: Setting) => Promise<string[]>;
  readonly measure: (engine: Engine, setting: Setting, made: readonly string[]) => Promise<number>;
  readonly after?: (engine: Engine, setting: Setting, made: readonly string[]) => Promise<unknown>;
}

/** The host of an engine that the bench started. */
export function hostOf({ host, name }: Engine): TestHost {
  if (host === undefined) throw new Error(`${name} was not started by the bench`);
  return host;
}

export const sleeper = (image: string): object => ({ Image: image, Cmd: ['sleep', '1000'], HostConfig: { NetworkMode: 'bridge' } });
export const shortLived = (image: string): object => ({ Image: image, Cmd: ['true'], HostConfig: { NetworkMode: 'bridge' } });

/** A container that sleeps. */
export async function started(engine: Engine, setting: Setting): Promise<string[]> {
  const id = await engine.create(sleeper(setting.image));
  await engine.call('POST', `/containers/${id}/start`);
  return [id];
}

export const removeAll = async (engine: Engine, _setting: Setting, made: readonly string[]): Promise<void> => {
  await inParallel(made.length, 4, (index) => engine.call('DELETE', `/containers/${made[index]}?force=1`, { anyStatus: true }));
};
