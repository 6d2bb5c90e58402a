/** Which containers use an image: asked of container-service. */
import { ContainersService } from '@flotilla/contracts/flotilla/container/v1/containers';
import { type Discovery, serviceCalls } from '@flotilla/service-kit';
import type { ContainersOfImages, ContainerUse } from '../remove.ts';

const deadlineMs = 10_000;

interface Listed {
  readonly Id: string;
  readonly ImageID: string;
  readonly State: string;
}

export function containersOfImages(discovery: Discovery): ContainersOfImages {
  const containers = serviceCalls(ContainersService, 'container-service', discovery);
  return {
    async of(imageId): Promise<ContainerUse[]> {
      const { containersJson } = await containers.list(
        { all: true, limit: 0, size: false, filters: { ancestor: { values: [imageId] } } },
        { deadlineMs, idempotent: true },
      );
      const listed = JSON.parse(Buffer.from(containersJson).toString('utf8')) as Listed[];
      return listed
        .filter((container) => container.ImageID === imageId)
        .map((container) => ({ id: container.Id, running: ['running', 'paused', 'restarting'].includes(container.State) }))
        .sort((a, b) => Number(b.running) - Number(a.running));
    },
  };
}
