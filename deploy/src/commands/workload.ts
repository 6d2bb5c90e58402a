/** What the instances of a stack have to do, as each tells of itself. */
import { Workload } from '@flotilla/contracts/flotilla/discovery/v1/workload';
import { GrpcSocket } from '../stack/grpcCall.ts';

const readMethod = '/flotilla.discovery.v1.Workloads/Read';
/** `ps` is for bad days too: one that does not answer is not waited for longer than a probe of its health would. */
const patienceMs = 3_000;

export interface InstanceWorkload {
  /** Calls and requests that have no whole answer yet. */
  readonly underWay: number;
  /** Since the start. */
  readonly answered: number;
  /** Over the last seconds. */
  readonly answeredPerSecond: number;
  /** Names of the leases it holds. */
  readonly leases: readonly string[];
}

/** The sum of what is told at these sockets: a compact process has one for each service. Undefined when one does not answer. */
export async function readWorkload(sockets: readonly string[]): Promise<InstanceWorkload | undefined> {
  if (sockets.length === 0) return undefined;
  try {
    const all = await Promise.all(sockets.map(readOne));
    return {
      underWay: all.reduce((sum, one) => sum + one.underWay, 0),
      answered: all.reduce((sum, one) => sum + Number(one.answered), 0),
      answeredPerSecond: all.reduce((sum, one) => sum + one.answeredPerSecond, 0),
      leases: all.flatMap((one) => one.leases),
    };
  } catch {
    return undefined;
  }
}

async function readOne(path: string): Promise<Workload> {
  const socket = new GrpcSocket(path);
  try {
    return Workload.decode(await socket.call(readMethod, patienceMs));
  } finally {
    socket.close();
  }
}
