/**
 * Compiled seccomp filters, kept to be used again. Compiling Docker's profile takes crun longer than everything else at a start; crun leaves the
 * BPF program beside its state and takes one by an annotation. Only filters that this machine's crun compiled from the same rules are given back.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RuntimeSpec } from '@flotilla/oci';
import type { OciRuntime } from './runtime.ts';
import { seccompDigest } from './spec/index.ts';

const annotation = 'run.oci.seccomp_bpf_data';
const mostFilters = 64;

export class SeccompCache {
  private readonly directory: string;
  /** Digest of the rules and runtime → the program, base64. */
  private readonly programs = new Map<string, string>();

  constructor(directory: string) {
    this.directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // What an earlier process left beyond the bound was never counted by this one.
    for (const name of readdirSync(directory).slice(mostFilters)) this.forget(name);
  }

  reuse(spec: RuntimeSpec, runtime: OciRuntime): RuntimeSpec {
    if (runtime.kind !== 'crun' || spec.linux?.seccomp === undefined) return spec;
    const program = this.program(digestOf(spec, runtime));
    if (program === undefined) return spec;
    return { ...spec, annotations: { ...spec.annotations, [annotation]: program } };
  }

  keep(spec: RuntimeSpec, runtime: OciRuntime, containerId: string): void {
    if (runtime.kind !== 'crun' || spec.linux?.seccomp === undefined || spec.annotations?.[annotation] !== undefined) return;
    const digest = digestOf(spec, runtime);
    try {
      const program = readFileSync(join(runtime.root, containerId, 'seccomp.bpf'));
      // One filter is a whole number of 8-byte instructions; anything else is half written or not one.
      if (program.length === 0 || program.length % 8 !== 0) return;
      const path = join(this.directory, digest);
      writeFileSync(`${path}.new`, program, { mode: 0o600 });
      renameSync(`${path}.new`, path);
      this.remember(digest, program.toString('base64'));
    } catch {
      // A run that was over at once took the file with it; another start will leave one.
    }
  }

  private program(digest: string): string | undefined {
    const known = this.programs.get(digest);
    if (known !== undefined) return known;
    try {
      const program = readFileSync(join(this.directory, digest)).toString('base64');
      this.remember(digest, program);
      return program;
    } catch {
      return undefined;
    }
  }

  private remember(digest: string, program: string): void {
    const [oldest] = this.programs.keys();
    if (this.programs.size >= mostFilters && oldest !== undefined) this.forget(oldest);
    this.programs.set(digest, program);
  }

  private forget(digest: string): void {
    this.programs.delete(digest);
    rmSync(join(this.directory, digest), { force: true });
  }
}

function digestOf(spec: RuntimeSpec, runtime: OciRuntime): string {
  return createHash('sha256')
    .update(`${runtime.path}\0${seccompDigest(spec) ?? ''}`)
    .digest('hex');
}
