/** The gRPC service BuildKit: connections of clients come in by standing tickets. */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { type BuildKitService, ClientConnection, type ClientSession } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { Forbidden } from '@flotilla/errors';
import { currentRequest, type Handlers, newRequestId, runWithRequest } from '@flotilla/service-kit';
import { describeIdentity, type Identity, type PolicySource } from '@flotilla/service-kit/rights';
import type { ServeStream, TicketServer } from '@flotilla/streams';
import { type Caller, type ConnectionParts, serveConnection } from '../buildkit/connection.ts';
import { GrpcConnection } from '../buildkit/grpcConnection.ts';
import { ownedName } from '../buildkit/ownedName.ts';
import type { Sessions } from '../buildkit/session.ts';
import { closeWhenSilent } from '../buildkit/sessionHealth.ts';
import { serveSessionBuild } from './sessionBuild.ts';

/** Longer than its holder uses it. */
const standingMs = 15 * 60_000;
const switchingProtocols = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n';

export interface BuildKitParts {
  readonly connection: ConnectionParts;
  readonly sessions: Sessions;
  readonly tickets: TicketServer;
  readonly policy: PolicySource | undefined;
}

export function buildkitHandlers({ connection, sessions, tickets, policy }: BuildKitParts): Handlers<typeof BuildKitService> {
  return {
    async openConnections() {
      const identity = currentRequest()?.identity;
      return { ticket: tickets.issueStanding((word) => admit(ClientConnection.decode(word), identity), standingMs) };
    },

    async build(request) {
      const caller = currentCaller(policy);
      caller.allow('ImageBuild');
      const { control } = connection;
      const ref = caller.own(request.ref || randomBytes(12).toString('hex'));
      const own = { ...request, ref, session: caller.own(request.session) };
      return { ticket: tickets.issue((stream, signal) => caller.run(() => serveSessionBuild(stream, control, own, signal))) };
    },

    async cancel({ ref }) {
      connection.jobs.cancel(ownedName(currentOwner(), ref));
      return {};
    },
  };

  /** @throws InvalidParameter for a session that is there already. */
  function admit({ requestId, traceparent, session, isAnswered, head }: ClientConnection, identity: Identity | undefined): ServeStream {
    const context = {
      requestId: requestId || newRequestId(),
      ...(traceparent === '' ? {} : { traceparent }),
      ...(identity === undefined ? {} : { identity }),
    };
    const serve = runWithRequest(context, () => (session === undefined ? controlOf() : sessionOf(session)));
    return (socket) =>
      runWithRequest(context, () => {
        if (head.length > 0) socket.unshift(head);
        if (!isAnswered) socket.write(switchingProtocols);
        // HTTP/2 has no half-closed connections: an end must end it.
        socket.allowHalfOpen = false;
        socket.on('error', () => socket.destroy());
        return serve(socket);
      });
  }

  function controlOf(): (socket: Socket) => Promise<void> {
    const caller = currentCaller(policy);
    return (socket) => serveConnection(socket, caller, connection);
  }

  function sessionOf({ id, sharedKey, methods }: ClientSession): (socket: Socket) => Promise<void> {
    const owner = currentOwner();
    const ownId = ownedName(owner, id);
    sessions.checkNew(ownId);
    // What one client has sent is kept for that client alone.
    const key = sharedKey === '' ? '' : `${owner ?? ''}\0${sharedKey}`;
    return async (socket) => {
      const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
      const client = new GrpcConnection(socket);
      try {
        sessions.add({ id: ownId, sharedKey: key, methods, connection: client });
        void closeWhenSilent(client);
        await gone;
      } finally {
        client.close();
      }
    };
  }
}

function currentOwner(): string | undefined {
  const identity = currentRequest()?.identity;
  return identity === undefined ? undefined : describeIdentity(identity);
}

/** Builds, and the containers of their steps, are made with the rights of who opened the connection. */
function currentCaller(policy: PolicySource | undefined): Caller {
  const context = currentRequest() ?? { requestId: newRequestId() };
  const { identity } = context;
  const owner = currentOwner();
  return {
    run: (work) => runWithRequest(context, work),
    own: (name) => ownedName(owner, name),
    allow: (operation) => {
      if (policy === undefined) return;
      if (identity === undefined) throw new Forbidden(`access denied: a caller that is not known may not use ${operation}`);
      const role = policy.current.checkOperation(identity, operation);
      if (operation === 'BuildPrune' && (role.objects !== undefined || role.images !== undefined))
        throw new Forbidden('access denied: a prune reaches beyond what is yours');
    },
  };
}
