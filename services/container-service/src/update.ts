/** Changing limits and the restart policy of a container, live when it runs. */
import { type ContainerUpdateRequest, containerUpdateRequest, DecodeError, decodeDocument } from '@flotilla/engine-api';
import { Conflict, errorMessage, InvalidParameter, isConflict, isFlotillaError } from '@flotilla/errors';
import type { RuntimeResources } from '@flotilla/oci';
import type { Run } from './container.ts';
import { findContainer } from './lookup.ts';
import { type CreateContext, cpuSharesFault, updatedResources, validateUpdate } from './spec/index.ts';
import { type ContainerStore, containerEvent } from './store.ts';

export interface UpdaterOptions {
  readonly store: ContainerStore;
  readonly context: CreateContext;
  readonly limit: (run: Run, resources: RuntimeResources) => void;
}

/** @returns warnings. @throws NotFound; InvalidParameter for limits that cannot be; Conflict when the kernel refuses. @see Engine API v1.50 ContainerUpdate */
export async function updateContainer(options: UpdaterOptions, reference: string, updateJson: Uint8Array): Promise<string[]> {
  const { store, context, limit } = options;
  const update = decode(updateJson);
  const { id } = findContainer(store, reference);
  return await store.withContainer(id, async (container, lease) => {
    const run = container.state.run;
    try {
      const { hostConfig, warnings } = validateUpdate({ update, hostConfig: container.hostConfig, running: run !== undefined }, context);
      const fault = run === undefined ? undefined : cpuSharesFault(hostConfig, context.host.cgroupVersion);
      if (fault !== undefined) throw new Conflict(fault);
      if (run !== undefined) limit(run, updatedResources(hostConfig));
      const updated = { ...container, hostConfig };
      await store.save(updated, lease, [containerEvent(updated, 'update')]);
      return warnings;
    } catch (error) {
      if (isFlotillaError(error) && !isConflict(error)) throw error;
      throw new Conflict(`Cannot update container ${id}: ${errorMessage(error)}`, { cause: error });
    }
  });
}

function decode(json: Uint8Array): ContainerUpdateRequest {
  try {
    return decodeDocument(containerUpdateRequest, Buffer.from(json).toString('utf8')) ?? {};
  } catch (error) {
    throw error instanceof DecodeError ? new InvalidParameter(`invalid JSON: ${error.message}`, { cause: error }) : error;
  }
}
