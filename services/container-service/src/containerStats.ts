/** Placeholder until the sampler lands in this folder. */
import { NotImplemented } from '@flotilla/errors';
import type { ContainerRecord } from './container.ts';

export class ContainerStats {
  // biome-ignore lint/correctness/useYield: see above
  async *open(_container: ContainerRecord, _options: { stream: boolean; oneShot: boolean }, _signal: AbortSignal): AsyncGenerator<unknown> {
    throw new NotImplemented('stats');
  }
}
