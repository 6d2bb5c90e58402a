/**
 * Where a stack keeps what.
 *
 *   <data-root>/engine-id                  the stack's UUID
 *   <data-root>/secrets/<user>.json        passwords for Redis and NATS, 0600
 *   <data-root>/logs/<service>.log[.N]     what each process writes
 *   <data-root>/redis, nats                the records; the bus' replayable events
 *   <data-root>/<service>                  that service's own
 *   <data-root>/volumes                    volumes' contents
 *   <exec-root>/docker.sock                the engine's socket
 *   <exec-root>/supervisor/                lock, control.sock, state.json, plan.json, command.json
 *   <exec-root>/sockets/<service>/         <instance>.grpc.sock, .stream.sock, .http.sock
 *   <exec-root>/redis/                     redis.sock, redis.conf, users.acl
 *   <exec-root>/nats/nats.conf
 *   <exec-root>/tls/                       the gateway's copies of certificate and key
 *   <exec-root>/<service>                  that service's own
 */
import { fileURLToPath } from 'node:url';

/** The checkout this runs from. */
export const codeRoot = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

export interface Roots {
  readonly dataRoot: string;
  readonly execRoot: string;
}

export interface StackPaths extends Roots {
  readonly engineId: string;
  readonly secrets: string;
  readonly logs: string;
  readonly redisData: string;
  readonly natsData: string;
  readonly volumes: string;
  readonly dockerSocket: string;
  readonly supervisor: string;
  readonly lock: string;
  readonly control: string;
  readonly state: string;
  readonly plan: string;
  /** The `flotilla up` that the stack was started with. */
  readonly command: string;
  readonly redisConf: string;
  readonly redisUsers: string;
  readonly natsRun: string;
  readonly natsConf: string;
  readonly tls: string;
  readonly redisRun: string;
  readonly redisSocket: string;
  readonly netns: string;
  /** Where the code is bound when the unprivileged users cannot reach the checkout. */
  readonly code: string;
}

export function stackPaths({ dataRoot, execRoot }: Roots): StackPaths {
  const supervisor = `${execRoot}/supervisor`;
  return {
    dataRoot,
    execRoot,
    engineId: `${dataRoot}/engine-id`,
    secrets: `${dataRoot}/secrets`,
    logs: `${dataRoot}/logs`,
    redisData: `${dataRoot}/redis`,
    natsData: `${dataRoot}/nats`,
    volumes: `${dataRoot}/volumes`,
    dockerSocket: `${execRoot}/docker.sock`,
    supervisor,
    lock: `${supervisor}/lock`,
    control: `${supervisor}/control.sock`,
    state: `${supervisor}/state.json`,
    plan: `${supervisor}/plan.json`,
    command: `${supervisor}/command.json`,
    redisConf: `${execRoot}/redis/redis.conf`,
    redisUsers: `${execRoot}/redis/users.acl`,
    natsRun: `${execRoot}/nats`,
    natsConf: `${execRoot}/nats/nats.conf`,
    tls: `${execRoot}/tls`,
    redisRun: `${execRoot}/redis`,
    redisSocket: `${execRoot}/redis/redis.sock`,
    netns: `${execRoot}/netns`,
    code: `${execRoot}/code`,
  };
}
