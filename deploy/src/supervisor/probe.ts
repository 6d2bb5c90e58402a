/**
 * Asks a process whether it is well: grpc.health.v1 for services, PING for Redis, the greeting of NATS. Spoken by hand (grpcCall.ts, node:net), since the
 * supervisor of five services need not carry three client libraries.
 */
import { connect } from 'node:net';
import { GrpcSocket } from '../stack/grpcCall.ts';
import type { Probe } from '../stack/plan.ts';
import { forInstance } from '../stack/plan.ts';

export interface ProbeAnswer {
  readonly healthy: boolean;
  /** Why not. */
  readonly reason: string;
  /** It answered at all, healthy or not. */
  readonly answered: boolean;
  /** What it calls itself, where it says so. */
  readonly version?: string;
}

export interface Prober {
  ask(timeoutMs: number): Promise<ProbeAnswer>;
  close(): void;
}

export function openProber(probe: Probe, instance: string): Prober {
  switch (probe.kind) {
    case 'grpc':
      return allOf(probe.sockets.map((socket) => new GrpcProber(forInstance(socket, instance))));
    case 'redis':
      return { ask: (timeoutMs) => askRedis(probe, timeoutMs), close: () => undefined };
    case 'nats':
      return { ask: (timeoutMs) => askNats(probe.port, timeoutMs), close: () => undefined };
  }
}

/** One answer for several: well when all are, and not answered when one does not answer. */
function allOf(probers: readonly Prober[]): Prober {
  return {
    ask: async (timeoutMs) => {
      const answers = await Promise.all(probers.map((prober) => prober.ask(timeoutMs)));
      const version = answers[0]?.version;
      return {
        healthy: answers.every((answer) => answer.healthy),
        answered: answers.every((answer) => answer.answered),
        reason: answers.find((answer) => !answer.healthy)?.reason ?? '',
        ...(version === undefined ? {} : { version }),
      };
    },
    close: () => {
      for (const prober of probers) prober.close();
    },
  };
}

export function noAnswer(reason: string): ProbeAnswer {
  return { healthy: false, answered: false, reason };
}

const healthCheck = '/grpc.health.v1.Health/Check';
const statusNames = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

/** Calls Check on an instance. */
class GrpcProber implements Prober {
  private readonly socket: GrpcSocket;

  constructor(path: string) {
    this.socket = new GrpcSocket(path);
  }

  async ask(timeoutMs: number): Promise<ProbeAnswer> {
    try {
      const status = healthStatus(await this.socket.call(healthCheck, timeoutMs));
      return { healthy: status === 1, answered: true, reason: status === 1 ? '' : (statusNames[status] ?? `status ${status}`) };
    } catch (error) {
      return noAnswer(error instanceof Error ? error.message : String(error));
    }
  }

  close(): void {
    this.socket.close();
  }
}

/** Field 1 (varint) of a HealthCheckResponse; absent means 0. */
function healthStatus(message: Buffer): number {
  return message.length >= 2 && message[0] === 0x08 ? (message[1] ?? 0) : 0;
}

/** Connects, says `request`, and reads until `complete` is content with what came. */
function converse(
  target: { path: string } | { host: string; port: number },
  request: string,
  complete: (text: string) => boolean,
  timeoutMs: number,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(target, () => {
      if (request !== '') socket.write(request);
    });
    let text = '';
    const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (complete(text)) {
        resolve(text);
        socket.destroy();
      }
    });
    socket.on('error', reject);
    socket.on('close', () => {
      clearTimeout(timer);
      reject(new Error('connection closed'));
    });
  });
}

async function askRedis(probe: { socket: string; user: string; password: string }, timeoutMs: number): Promise<ProbeAnswer> {
  try {
    const request = `AUTH ${probe.user} ${probe.password}\r\nPING\r\nINFO server\r\n`;
    const text = await converse(
      { path: probe.socket },
      request,
      (soFar) => soFar.includes('redis_version:') || /^-/m.test(soFar),
      timeoutMs,
    );
    const refusal = /^-(.*)$/m.exec(text)?.[1];
    const version = /^redis_version:(\S+)/m.exec(text)?.[1];
    if (refusal !== undefined) return { healthy: false, answered: true, reason: refusal };
    return { healthy: text.includes('+PONG'), answered: true, reason: '', ...(version === undefined ? {} : { version }) };
  } catch (error) {
    return noAnswer(error instanceof Error ? error.message : String(error));
  }
}

async function askNats(port: number, timeoutMs: number): Promise<ProbeAnswer> {
  try {
    const text = await converse({ host: '127.0.0.1', port }, '', (soFar) => soFar.includes('\r\n'), timeoutMs);
    if (!text.startsWith('INFO ')) return { healthy: false, answered: true, reason: 'not a nats-server' };
    const info = JSON.parse(text.slice(5, text.indexOf('\r\n'))) as { version?: string; jetstream?: boolean };
    return {
      healthy: info.jetstream === true,
      answered: true,
      reason: info.jetstream === true ? '' : 'JetStream is off',
      ...(info.version === undefined ? {} : { version: info.version }),
    };
  } catch (error) {
    return noAnswer(error instanceof Error ? error.message : String(error));
  }
}
