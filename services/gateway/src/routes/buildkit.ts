/** The two connections of BuildKit's clients, both of which image-service speaks on: `/grpc`, where it is the server, and `/session`, where it is the client. */
import type { IncomingMessage } from 'node:http';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import type { Backends } from '../backends.ts';
import { clientGone } from '../http/respond.ts';
import { upgrade } from '../streams/hijack.ts';

/** A build's connections do not name each other before they are open: all go to one instance, which also does equal steps of concurrent builds once. */
export const sameInstance = { rendezvousKey: 'buildkit' } as const;
const protocol = 'h2c';

export function buildkitRoutes(router: Router, { buildkit }: Backends): void {
  router.post(/^\/grpc$/, async (request, response) => {
    checkProtocol(request);
    const signal = clientGone(response);
    const { ticket } = await buildkit.openControl({}, { ...sameInstance, signal });
    await upgrade(request, response, ticket, protocol, signal);
  });

  router.post(/^\/session$/, async (request, response) => {
    checkProtocol(request);
    const [id = ''] = headers(request, 'x-docker-expose-session-uuid');
    if (id === '') throw new InvalidParameter('session: the header X-Docker-Expose-Session-Uuid is missing');
    const [sharedKey = ''] = headers(request, 'x-docker-expose-session-sharedkey');
    const methods = headers(request, 'x-docker-expose-session-grpc-method');
    const signal = clientGone(response);
    const { ticket } = await buildkit.openSession({ id, sharedKey, methods }, { ...sameInstance, signal });
    await upgrade(request, response, ticket, protocol, signal);
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
