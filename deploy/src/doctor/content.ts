/** `flotilla doctor --disk`: image-service's own check of what it keeps, as findings. */
import { DiskClient, type DiskFinding } from '@flotilla/contracts/flotilla/image/v1/disk';
import { fromServiceError } from '@flotilla/errors';
import { areLost } from '@flotilla/records/restoration';
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { type Roots, stackPaths } from '../stack/paths.ts';
import { socketsOf } from '../stack/sockets.ts';
import { type Finding, missing, ok, warning } from './finding.ts';
import { lostHint } from './records.ts';

/** @param repair - removes and extracts anew what is damaged or nobody's. */
export async function checkContent(roots: Roots, repair: boolean): Promise<Finding[]> {
  const directory = `${stackPaths(roots).dataRoot}/image-service`;
  const orphanHint = areLost(directory) ? lostHint('image-service', directory) : 'flotilla doctor --disk --repair removes it';
  for (const socket of socketsOf(roots.execRoot, 'image-service', 'grpc')) {
    const findings = await askedAt(`unix:${socket}`, repair, orphanHint);
    if (findings !== undefined) return findings;
  }
  return [warning('disk', 'image-service checks it, and does not run', 'flotilla up, then again')];
}

/** Undefined when nobody answers there. */
async function askedAt(address: string, repair: boolean, orphanHint: string): Promise<Finding[] | undefined> {
  const client = new DiskClient(address, credentials.createInsecure());
  const findings: Finding[] = [];
  try {
    for await (const message of client.check({ repair }) as AsyncIterable<DiskFinding>) findings.push(findingOf(message, orphanHint));
    return findings;
  } catch (error) {
    const failure = error as ServiceError;
    if (failure.code === status.UNAVAILABLE && findings.length === 0) return undefined;
    throw fromServiceError(failure);
  } finally {
    client.close();
  }
}

function findingOf({ kind, name, detail, repaired, orphan, size }: DiskFinding, orphanHint: string): Finding {
  const what = `${kind} ${name}`.trim();
  if (kind === 'summary') return ok('disk', detail);
  if (repaired) return ok(what, `${detail}; repaired`);
  if (orphan) return warning(what, `${detail}, ${size} bytes`, orphanHint);
  return missing(what, detail, 'flotilla doctor --disk --repair, then pull or load what it says');
}
