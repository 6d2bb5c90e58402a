/** The connection to NATS: kept for ever, so that a restart of nats-server is only a pause. */
import { connect, type Msg, type NatsConnection } from 'nats';
import type { Logger } from './logger.ts';

export interface BusOptions {
  readonly url: string;
  readonly user?: string;
  readonly password?: string;
  readonly engineId: string;
  /** Shown by nats-server's connection list. */
  readonly name: string;
  readonly logger: Logger;
}

export class Bus {
  readonly connection: NatsConnection;
  readonly engineId: string;
  private up = true;

  private constructor(connection: NatsConnection, engineId: string, logger: Logger) {
    this.connection = connection;
    this.engineId = engineId;
    void this.follow(logger);
  }

  /** Connects; waits for a server that is not there yet. */
  static async connect(options: BusOptions): Promise<Bus> {
    const connection = await connect({
      servers: options.url.split(','),
      name: options.name,
      ...(options.user ? { user: options.user, pass: options.password ?? '' } : {}),
      maxReconnectAttempts: -1,
      reconnectTimeWait: 200,
      reconnectJitter: 50,
      waitOnFirstConnect: true,
      pingInterval: 5_000,
      maxPingOut: 2,
    });
    return new Bus(connection, options.engineId, options.logger);
  }

  private async follow(logger: Logger): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === 'disconnect') this.up = false;
      if (status.type === 'reconnect') this.up = true;
      if (status.type === 'disconnect' || status.type === 'reconnect') logger.info({ bus: status.type }, 'bus');
    }
    this.up = false;
  }

  get connected(): boolean {
    return this.up;
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
