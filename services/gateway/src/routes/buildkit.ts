/** The two connections of BuildKit's clients, both of which image-service speaks on: `/grpc`, where it is the server, and `/session`, where it is the client. */
import type { IncomingMessage } from 'node:http';
import { ClientSession } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { Router } from 'express';
import type { BuildKitDoor } from '../buildkitDoor.ts';
import { clientGone } from '../http/respond.ts';
import { handOver, handOverWhenSpoken } from '../streams/hijack.ts';

const protocol = 'h2c';

export function buildkitRoutes(router: Router, door: BuildKitDoor, logger: Logger): void {
  router.post(/^\/grpc$/, async (request, response) => {
    checkProtocol(request);
    const signal = clientGone(response);
    if (!door.isOpen) {
      await handOver(request, response, (given) => door.open({}, { given, signal }));
      return;
    }
    // Clients open some of these only to see that they are served.
    try {
      await handOverWhenSpoken(request, response, protocol, (given, head) => door.open({ isAnswered: true, head }, { given, signal }));
    } catch (error) {
      logger.warn({ error }, 'a connection of a BuildKit client was lost');
    }
  });

  router.post(/^\/session$/, async (request, response) => {
    checkProtocol(request);
    const [id = ''] = headers(request, 'x-docker-expose-session-uuid');
    if (id === '') throw new InvalidParameter('session: the header X-Docker-Expose-Session-Uuid is missing');
    const [sharedKey = ''] = headers(request, 'x-docker-expose-session-sharedkey');
    const methods = headers(request, 'x-docker-expose-session-grpc-method');
    const signal = clientGone(response);
    const session = ClientSession.fromPartial({ id, sharedKey, methods });
    await handOver(request, response, (given) => door.open({ session }, { given, signal }));
  });
}

function checkProtocol({ headers: { upgrade: wanted } }: IncomingMessage): void {
  if (wanted === undefined) throw new InvalidParameter('no upgrade proto in request');
  if (wanted.toLowerCase() !== protocol) throw new InvalidParameter(`protocol ${wanted} not supported`);
}

/** Every value of a header that comes more than once. */
function headers({ rawHeaders }: IncomingMessage, name: string): string[] {
  return rawHeaders.flatMap((key, index) => (index % 2 === 0 && key.toLowerCase() === name ? (rawHeaders[index + 1] ?? []) : []));
}
