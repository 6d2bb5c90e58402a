/** Build arguments: what the client gave, what the Dockerfile declares, and in which scope. @see docs.docker.com Dockerfile reference, ARG */

/** Taken without being declared, and left out of cache keys and history unless they are. */
const predefined: ReadonlySet<string> = new Set(
  ['HTTP_PROXY', 'HTTPS_PROXY', 'FTP_PROXY', 'NO_PROXY', 'ALL_PROXY'].flatMap((name) => [name, name.toLowerCase()]),
);

/** The arguments of a whole build; each stage has a scope of its own. */
export class BuildArgs {
  private readonly given: ReadonlyMap<string, string | undefined>;
  private readonly global = new Map<string, string | undefined>();
  private readonly consumed = new Set<string>();

  /** @param platform - values that every FROM sees and a stage gets by declaring them (`TARGETARCH` …). */
  constructor(given: ReadonlyMap<string, string | undefined>, platform: ReadonlyMap<string, string>) {
    this.given = given;
    for (const [name, value] of platform) this.global.set(name, value);
  }

  /** ARG before the first FROM. */
  declareGlobal(name: string, value: string | undefined): void {
    this.consumed.add(name);
    this.global.set(name, this.given.get(name) ?? value ?? this.global.get(name));
  }

  /** What FROM sees. */
  globals(): Map<string, string> {
    return new Map([...this.global].flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const])));
  }

  scope(): ArgScope {
    return new ArgScope(this.given, this.global, this.consumed);
  }

  /** Arguments that no ARG took. */
  unconsumed(): string[] {
    return [...this.given.keys()].filter((name) => !this.consumed.has(name) && !predefined.has(name)).sort();
  }
}

/** The arguments of one stage. */
export class ArgScope {
  private readonly declared = new Map<string, string | undefined>();
  private readonly given: ReadonlyMap<string, string | undefined>;
  private readonly global: ReadonlyMap<string, string | undefined>;
  private readonly consumed: Set<string>;

  constructor(given: ReadonlyMap<string, string | undefined>, global: ReadonlyMap<string, string | undefined>, consumed: Set<string>) {
    this.given = given;
    this.global = global;
    this.consumed = consumed;
  }

  declare(name: string, value: string | undefined): void {
    this.consumed.add(name);
    this.declared.set(name, value);
  }

  /** A stage built on another sees what that one declared. */
  inherit(other: ArgScope): void {
    for (const [name, value] of other.declared) this.declared.set(name, value);
  }

  /** Values in effect, but for those that a variable of the environment hides. */
  values(environment: readonly string[]): Map<string, string> {
    const hidden = new Set(environment.map((variable) => variable.split('=', 1)[0]));
    const found = new Map<string, string>();
    for (const name of new Set([...this.declared.keys(), ...predefined])) {
      const value = this.given.get(name) ?? this.declared.get(name) ?? (this.declared.has(name) ? this.global.get(name) : undefined);
      if (value !== undefined && !hidden.has(name)) found.set(name, value);
    }
    return found;
  }

  /** `|1 name=value`: how history and cache know what arguments a command saw. */
  prefix(environment: readonly string[]): string[] {
    const shown = [...this.values(environment)].filter(([name]) => this.declared.has(name) || !predefined.has(name));
    if (shown.length === 0) return [];
    return [`|${shown.length}`, ...shown.map(([name, value]) => `${name}=${value}`).sort()];
  }
}
