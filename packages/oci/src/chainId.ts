/** ChainIDs: the identity of a stack of layers. @see OCI image-spec config.md#layer-chainid */
import { type Digest, digestOf } from './digest.ts';

/** The chain id of each stack, lowest first: `[0]` is the first diffID itself. */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) chain.push(nextChainId(chain.at(-1), diffId));
  return chain;
}

/** The chain id of a layer above `parent`. */
export function nextChainId(parent: Digest | undefined, diffId: Digest): Digest {
  return parent === undefined ? diffId : digestOf(`${parent} ${diffId}`);
}
