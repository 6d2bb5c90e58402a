/** `--build-context NAME=…`: what stands for a stage or an image of that name. */
import { familiarString, parseReference, withDefaultTag } from '@flotilla/oci';
import type { Image } from '../image.ts';

export type NamedContext =
  | { readonly kind: 'image'; readonly reference: string }
  /** What another build has made. */
  | { readonly kind: 'built'; readonly image: Image }
  | { readonly kind: 'files'; readonly root: () => Promise<string> };

export class NamedContexts {
  private readonly contexts = new Map<string, NamedContext>();

  constructor(contexts: ReadonlyMap<string, NamedContext> = new Map()) {
    for (const [name, context] of contexts) this.contexts.set(canonicalName(name), context);
  }

  /** @param name - as FROM or `--from` has it. */
  find(name: string): NamedContext | undefined {
    return this.contexts.size === 0 ? undefined : this.contexts.get(canonicalName(name));
  }
}

/** `alpine`, `alpine:latest` and `docker.io/library/alpine` are one name. */
export function canonicalName(name: string): string {
  try {
    return familiarString(withDefaultTag(parseReference(name.toLowerCase())));
  } catch {
    return name.toLowerCase();
  }
}
