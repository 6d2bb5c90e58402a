import type { Variables } from '../dockerfile/substitute.ts';

/** Variables that note who asks for them. */
export class RecordingVariables implements Variables {
  /** Names that nothing was known of. */
  readonly missing = new Set<string>();
  /** How often any was asked for. */
  used = 0;
  private readonly lookUp: (name: string) => string | undefined;

  constructor(lookUp: (name: string) => string | undefined) {
    this.lookUp = lookUp;
  }

  get(name: string): string | undefined {
    const value = this.lookUp(name);
    this.used++;
    if (value === undefined) this.missing.add(name);
    return value;
  }
}
