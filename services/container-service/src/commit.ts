/** Making an image of a container's writable layer. image-service does it; the container may be paused meanwhile. */
import type { CommitContainerRequest } from '@flotilla/contracts/flotilla/container/v1/containers';
import { Conflict } from '@flotilla/errors';
import { familiarString, parseReference } from '@flotilla/oci';
import type { Run } from './container.ts';
import type { Freezer } from './lifecycle.ts';
import { findContainer } from './lookup.ts';
import { type Neighbours, toJson } from './neighbours.ts';
import { type ContainerStore, containerEvent } from './store.ts';

export interface CommitterOptions {
  readonly store: ContainerStore;
  readonly neighbours: Pick<Neighbours, 'images'>;
  readonly freezerOf: (run: Run) => Freezer;
}

/** @returns the image's id. @see Engine API v1.50 ImageCommit */
export async function commitContainer(options: CommitterOptions, request: CommitContainerRequest): Promise<string> {
  const { store, neighbours, freezerOf } = options;
  const { id } = findContainer(store, request.container);
  return await store.withContainer(id, async (container) => {
    if (container.state.status === 'dead' || container.state.status === 'removing') {
      throw new Conflict(`You cannot commit container ${id} which is ${container.state.status === 'dead' ? 'Dead' : 'being removed'}`);
    }
    const freezer =
      request.pause && container.state.status === 'running' && container.state.run ? freezerOf(container.state.run) : undefined;
    const tell = (action: string): Promise<unknown> => store.commit({ events: [containerEvent(container, action)] });
    await freezer?.freeze();
    try {
      if (freezer !== undefined) await tell('pause');
      const answer = await neighbours.images.commit(
        {
          snapshotKey: id,
          repository: request.repository,
          tag: request.tag,
          comment: request.comment,
          author: request.author,
          changes: request.changes,
          configJson: request.configJson,
          containerConfigJson: toJson(container.config),
        },
        { deadlineMs: 30 * 60_000 },
      );
      const { comment } = request;
      await store.commit({
        events: [containerEvent(container, 'commit', { comment, imageID: answer.id, imageRef: reference(request) })],
      });
      return answer.id;
    } finally {
      if (freezer !== undefined) {
        await freezer.thaw();
        await tell('unpause');
      }
    }
  });
}

function reference({ repository, tag }: CommitContainerRequest): string {
  if (repository === '') return '';
  return familiarString(parseReference(`${repository}:${tag || 'latest'}`));
}
