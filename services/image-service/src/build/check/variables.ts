/** Variables that note who asks for them. */
export class RecordingVariables extends Map<string, string> {
  /** Names that nothing was known of. */
  readonly missing = new Set<string>();
  /** How often any was asked for. */
  used = 0;

  override get(name: string): string | undefined {
    const value = super.get(name);
    this.used++;
    if (value === undefined) this.missing.add(name);
    return value;
  }
}
