/**
 * What a client gets for a result where BuildKit would give it a graph of operations: one that names our result and nothing else. Clients hand it back as it
 * is, to build on it (linked targets of bake) or to have it solved.
 */
import { createHash } from 'node:crypto';
import type { Definition } from '@flotilla/contracts/pb/ops';
import { Op } from '@flotilla/contracts/pb/ops';

const scheme = 'flotilla://';

export function standInFor(id: string): Definition {
  const source = Buffer.from(Op.encode(Op.fromPartial({ source: { identifier: `${scheme}${id}` } })).finish());
  const last = Buffer.from(Op.encode(Op.fromPartial({ inputs: [{ digest: digestOf(source) }] })).finish());
  return { def: [source, last], metadata: { [digestOf(source)]: {}, [digestOf(last)]: {} }, source: undefined };
}

/** The id of our result that a definition stands for; undefined when it is a definition of the client's own. */
export function resultIdOf({ def }: Definition): string | undefined {
  const [first] = def;
  if (first === undefined) return undefined;
  try {
    const identifier = Op.decode(first).source?.identifier ?? '';
    return identifier.startsWith(scheme) ? identifier.slice(scheme.length) : undefined;
  } catch {
    return undefined;
  }
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
