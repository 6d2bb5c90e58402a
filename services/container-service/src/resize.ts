/** The size of a container's terminal. */
import { Conflict, System } from '@flotilla/errors';
import { resizeTerminal } from './adapters/control.ts';
import { findContainer } from './lookup.ts';
import type { Paths } from './paths.ts';
import { type ContainerStore, containerEvent } from './store.ts';

/** @throws Conflict when it does not run. @see Engine API v1.50 ContainerResize */
export async function resizeContainer(
  store: ContainerStore,
  paths: Paths,
  reference: string,
  height: number,
  width: number,
): Promise<void> {
  const container = findContainer(store, reference);
  if (container.state.run === undefined) throw new Conflict(`container ${container.id} is not running`);
  try {
    await resizeTerminal(paths.bundle(container.id), height, width);
  } catch (error) {
    throw new System(`cannot resize container ${container.id}`, { cause: error });
  }
  await store.commit({ events: [containerEvent(container, 'resize', { height: `${height}`, width: `${width}` })] });
}
