/** `flotilla doctor --disk`: image-service's own check of what it keeps, as findings. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { DiskClient, type DiskFinding } from '@flotilla/contracts/flotilla/image/v1/disk';
import { credentials, status } from '@grpc/grpc-js';
import type { Roots } from '../stack/paths.ts';
import { type Finding, missing, ok, warning } from './finding.ts';

/** @param repair - removes and extracts anew what is damaged or nobody's. */
export async function checkContent(roots: Roots, repair: boolean): Promise<Finding[]> {
  const folder = join(roots.execRoot, 'sockets/image-service');
  for (const socket of socketsIn(folder)) {
    const findings = await askedAt(`unix:${join(folder, socket)}`, repair);
    if (findings !== undefined) return findings;
  }
  return [warning('disk', 'image-service checks it, and does not run', 'flotilla up, then again')];
}

/** Undefined when nobody answers there. */
async function askedAt(address: string, repair: boolean): Promise<Finding[] | undefined> {
  const client = new DiskClient(address, credentials.createInsecure());
  const findings: Finding[] = [];
  try {
    for await (const message of client.check({ repair }) as AsyncIterable<DiskFinding>) findings.push(findingOf(message));
    return findings;
  } catch (error) {
    if ((error as { code?: number }).code === status.UNAVAILABLE && findings.length === 0) return undefined;
    throw error;
  } finally {
    client.close();
  }
}

function socketsIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith('.grpc.sock'));
  } catch {
    return [];
  }
}

function findingOf({ kind, name, detail, repaired, orphan, size }: DiskFinding): Finding {
  const what = `${kind} ${name}`.trim();
  if (kind === 'summary') return ok('disk', detail);
  if (repaired) return ok(what, `${detail}; repaired`);
  if (orphan) return warning(what, `${detail}, ${size} bytes`, 'flotilla doctor --disk --repair removes it');
  return missing(what, detail, 'flotilla doctor --disk --repair, then pull or load what it says');
}
