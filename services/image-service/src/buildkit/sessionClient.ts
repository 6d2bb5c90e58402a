/** What a session lends a build: credentials for registries, secrets, and connections to an ssh agent. */
import { chmodSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { SecretsService } from '@flotilla/contracts/moby/buildkit/secrets/v1/secrets';
import { AuthService } from '@flotilla/contracts/moby/filesync/v1/auth';
import { SSHService } from '@flotilla/contracts/moby/sshforward/v1/ssh';
import { InvalidParameter, isNotFound, NotFound } from '@flotilla/errors';
import { writeAll } from '@flotilla/streams';
import type { BuildClient } from '../build/client.ts';
import { type Credentials, encodeCredentials } from '../build/credentials.ts';
import type { Session } from './session.ts';

/** Docker Hub, as clients are asked for it. */
const dockerHub = 'registry-1.docker.io';
/** BuildKit's own limit. */
const largestSecret = 500 * 1024;
const chunkBytes = 32 * 1024;

export function sessionCredentials(session: Session, signal: AbortSignal): Credentials {
  const known = new Map<string, Promise<string>>();
  const ask = async (domain: string): Promise<string> => {
    const host = domain === 'docker.io' ? dockerHub : domain;
    const { username, secret } = await session.connection.call(AuthService.credentials, { host }, signal);
    if (secret === '') return '';
    return encodeCredentials(username === '' ? { identitytoken: secret } : { username, password: secret, serveraddress: domain });
  };
  return (domain) => {
    if (!session.offers(AuthService.credentials.path)) return Promise.resolve('');
    const answer = known.get(domain) ?? ask(domain);
    known.set(domain, answer);
    return answer;
  };
}

/** Lasts as long as one build. */
export class SessionClient implements BuildClient {
  private readonly session: Session;
  private readonly directory: () => string;
  private readonly signal: AbortSignal;
  private readonly agents: Server[] = [];
  private readonly sockets = new Set<Socket>();

  /** @param directory - gives an empty one. */
  constructor(session: Session, directory: () => string, signal: AbortSignal) {
    this.session = session;
    this.directory = directory;
    this.signal = signal;
  }

  async secret(id: string): Promise<Buffer | undefined> {
    if (!this.session.offers(SecretsService.getSecret.path)) return undefined;
    try {
      const { data } = await this.session.connection.call(SecretsService.getSecret, { id, annotations: {} }, this.signal);
      if (data.length > largestSecret) throw new InvalidParameter(`secret ${id} too large: ${data.length} bytes, at most ${largestSecret}`);
      return data;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async agent(id: string): Promise<string> {
    if (!this.session.offers(SSHService.forwardAgent.path)) throw new NotFound(`unset ssh forward key ${id}`);
    await this.session.connection.call(SSHService.checkAgent, { id }, this.signal);
    const path = join(this.directory(), 'agent.sock');
    const server = createServer({ allowHalfOpen: true }, (socket) => void this.forward(socket, id));
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
    chmodSync(path, 0o600);
    this.agents.push(server);
    return path;
  }

  private async forward(socket: Socket, id: string): Promise<void> {
    this.sockets.add(socket);
    socket.once('close', () => this.sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    try {
      const exchange = this.session.connection.open(SSHService.forwardAgent, [['buildkit.ssh.id', id]], this.signal);
      socket.once('close', () => exchange.cancel());
      const asked = (async () => {
        for await (const chunk of socket as AsyncIterable<Buffer>) {
          for (let at = 0; at < chunk.length; at += chunkBytes) await exchange.send({ data: chunk.subarray(at, at + chunkBytes) });
        }
        exchange.end();
      })();
      asked.catch(() => undefined);
      for await (const messages of exchange.batches()) for (const { data } of messages) await writeAll(socket, data);
      socket.end();
    } catch {
      // The agent or the step has gone: the other side sees its connection end.
      socket.destroy();
    }
  }

  close(): void {
    for (const agent of this.agents) agent.close();
    for (const socket of this.sockets) socket.destroy();
  }
}
