/** The gRPC service Execs. */
import type { ExecsService } from '@flotilla/contracts/flotilla/container/v1/containers';
import type { Handlers } from '@flotilla/service-kit';
import type { Execs } from '../exec.ts';
import type { ContainerStore } from '../store.ts';
import { jsonBytes } from './convert.ts';

export function execHandlers(store: ContainerStore, execs: Execs): Handlers<typeof ExecsService> {
  return {
    create: async ({ container, configJson }) => {
      await store.fresh();
      return { id: await execs.create(container, configJson) };
    },
    start: async ({ exec, detach, tty, height, width }) => {
      await store.fresh();
      const started = await execs.start(exec, { detach, tty, height, width });
      return { ticket: started.ticket, tty: started.tty };
    },
    resize: async ({ exec, height, width }) => {
      await store.fresh();
      await execs.resize(exec, height, width);
      return {};
    },
    inspect: async ({ exec }) => {
      await store.fresh();
      return { execJson: jsonBytes(execs.inspect(exec)) };
    },
  };
}
