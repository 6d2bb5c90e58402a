/** The gRPC service BuildKit: connections of clients come in by tickets. */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { BuildKitService } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { Forbidden } from '@flotilla/errors';
import { currentRequest, type Handlers, newRequestId, runWithRequest } from '@flotilla/service-kit';
import { describeIdentity, type PolicySource } from '@flotilla/service-kit/rights';
import type { TicketServer } from '@flotilla/streams';
import { type Caller, type ConnectionParts, serveConnection } from '../buildkit/connection.ts';
import { GrpcConnection } from '../buildkit/grpcConnection.ts';
import { ownedName } from '../buildkit/ownedName.ts';
import type { Sessions } from '../buildkit/session.ts';
import { closeWhenSilent } from '../buildkit/sessionHealth.ts';
import { serveSessionBuild } from './sessionBuild.ts';

export interface BuildKitParts {
  readonly connection: ConnectionParts;
  readonly sessions: Sessions;
  readonly tickets: TicketServer;
  readonly policy: PolicySource | undefined;
}

export function buildkitHandlers({ connection, sessions, tickets, policy }: BuildKitParts): Handlers<typeof BuildKitService> {
  return {
    async openControl() {
      const caller = currentCaller(policy);
      return { ticket: tickets.issue((socket) => serveConnection(socket, caller, connection), { takesConnection: true }) };
    },

    async openSession({ id, sharedKey, methods }) {
      const owner = currentOwner();
      const ownId = ownedName(owner, id);
      sessions.checkNew(ownId);
      // What one client has sent is kept for that client alone.
      const key = sharedKey === '' ? '' : `${owner ?? ''}\0${sharedKey}`;
      return { ticket: tickets.issue((socket) => serveSession(socket, ownId, key, methods), { takesConnection: true }) };
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

  async function serveSession(socket: Socket, id: string, sharedKey: string, methods: readonly string[]): Promise<void> {
    const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => socket.destroy());
    socket.allowHalfOpen = false;
    const client = new GrpcConnection(socket);
    try {
      sessions.add({ id, sharedKey, methods, connection: client });
      void closeWhenSilent(client);
      await gone;
    } finally {
      client.close();
    }
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
