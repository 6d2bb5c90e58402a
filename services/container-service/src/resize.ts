/** The size of a container's terminal. */
import { System } from '@flotilla/errors';
import { notRunning } from './container.ts';
import { findContainer } from './lookup.ts';
import type { Monitor } from './monitor.ts';
import type { Paths } from './paths.ts';
import { type ContainerStore, containerEvent } from './store.ts';

export interface ResizerOptions {
  readonly store: ContainerStore;
  readonly paths: Paths;
  readonly monitor: Pick<Monitor, 'resize'>;
}

/** @throws Conflict when it does not run. @see Engine API v1.50 ContainerResize */
export async function resizeContainer(
  { store, paths, monitor }: ResizerOptions,
  reference: string,
  height: number,
  width: number,
): Promise<void> {
  const container = findContainer(store, reference);
  if (container.state.run === undefined) throw notRunning(container.id);
  try {
    await monitor.resize(paths.bundle(container.id), height, width);
  } catch (error) {
    throw new System(`cannot resize container ${container.id}`, { cause: error });
  }
  await store.commit({ events: [containerEvent(container, 'resize', { height: `${height}`, width: `${width}` })] });
}
