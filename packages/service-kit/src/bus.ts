/** The connection to NATS: kept for ever, so that a restart of nats-server is only a pause. */
import { errorMessage } from '@flotilla/errors';
import { type Authenticator, connect, credsAuthenticator, type Msg, type NatsConnection, nkeyAuthenticator } from 'nats';
import type { Logger } from './logger.ts';

export interface BusOptions {
  /** `nats://host:port`, or `tls://…`; several servers of a cluster with commas between them. */
  readonly url: string;
  /** Without a password it is a token. */
  readonly user?: string;
  readonly password?: string;
  /** What a credentials file or an nkey's seed file holds; then it alone says who we are. */
  readonly credentials?: string;
  /** PEM, each. */
  readonly tls?: { readonly ca?: string | undefined; readonly cert?: string | undefined; readonly key?: string | undefined };
  readonly engineId: string;
  /** Shown by nats-server's connection list. */
  readonly name: string;
  readonly logger: Logger;
}

const explainAfterMs = 3_000;

export class Bus {
  readonly connection: NatsConnection;
  readonly engineId: string;
  readonly logger: Logger;
  private up = true;
  private readonly reconnectListeners = new Set<() => void>();

  private constructor(connection: NatsConnection, engineId: string, logger: Logger) {
    this.connection = connection;
    this.engineId = engineId;
    this.logger = logger;
    void this.follow();
  }

  /** Connects; waits for a server that is not there yet, or does not let us in yet. */
  static async connect(options: BusOptions): Promise<Bus> {
    // The client says nothing of why it waits.
    const timer = setTimeout(() => {
      Bus.connectAtOnce(options).then(
        (bus) => bus.close(),
        (error: unknown) => options.logger.warn({ reason: errorMessage(error) }, 'NATS cannot be used yet: waiting for it'),
      );
    }, explainAfterMs).unref();
    try {
      return await Bus.open(options, true);
    } finally {
      clearTimeout(timer);
    }
  }

  /** @throws what connecting fails with. */
  static connectAtOnce(options: BusOptions): Promise<Bus> {
    return Bus.open(options, false);
  }

  private static async open(options: BusOptions, isPatient: boolean): Promise<Bus> {
    const servers = options.url.split(',');
    const wantsTls = servers.some((server) => server.startsWith('tls://')) || Object.keys(options.tls ?? {}).length > 0;
    const connection = await connect({
      servers,
      name: options.name,
      ...identity(options),
      ...(wantsTls ? { tls: { ...options.tls } } : {}),
      maxReconnectAttempts: -1,
      reconnectTimeWait: 200,
      reconnectJitter: 50,
      waitOnFirstConnect: isPatient,
      pingInterval: 5_000,
      maxPingOut: 2,
    });
    return new Bus(connection, options.engineId, options.logger);
  }

  private async follow(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === 'disconnect') this.up = false;
      if (status.type === 'reconnect') {
        this.up = true;
        for (const listener of this.reconnectListeners) listener();
      }
      if (status.type === 'disconnect' || status.type === 'reconnect') this.logger.info({ bus: status.type }, 'bus');
    }
    this.up = false;
  }

  get connected(): boolean {
    return this.up;
  }

  /** Calls `listener` whenever the connection stands again: what the server kept may be gone. Answers a function that ends it. */
  onReconnect(listener: () => void): () => void {
    this.reconnectListeners.add(listener);
    return () => this.reconnectListeners.delete(listener);
  }

  /** `flotilla.<engine-id>.<parts…>` */
  subject(...parts: string[]): string {
    return ['flotilla', this.engineId, ...parts].join('.');
  }

  publish(subject: string, payload: Uint8Array): void {
    this.connection.publish(subject, payload);
  }

  /** Calls `onMessage` for each message; answers a function that ends it. */
  subscribe(subject: string, onMessage: (payload: Uint8Array, message: Msg) => void): () => void {
    const subscription = this.connection.subscribe(subject, {
      callback: (error, message) => {
        if (error === null) onMessage(message.data, message);
      },
    });
    return () => subscription.unsubscribe();
  }

  async close(): Promise<void> {
    if (this.connection.isClosed()) return;
    // A drain waits for the server; while it is away there is nobody to wait for.
    if (this.up) await this.connection.drain();
    else await this.connection.close();
  }
}

function identity({
  user,
  password,
  credentials,
}: BusOptions): { authenticator: Authenticator } | { user: string; pass: string } | { token: string } | object {
  if (credentials) {
    const bytes = new TextEncoder().encode(credentials);
    // A seed is one line; a credentials file has it and a token between marks.
    return {
      authenticator: credentials.includes('-----BEGIN')
        ? credsAuthenticator(bytes)
        : nkeyAuthenticator(new TextEncoder().encode(credentials.trim())),
    };
  }
  if (!user) return {};
  return password ? { user, pass: password } : { token: user };
}
