/**
 * Copies of clients' directories, kept from one build to the next so that only what has changed is sent. A copy has one user at a time.
 *
 * Layout: `<image-service>/build-contexts/<digest of key>-<random>`, with `.<instance>` at its end while that instance uses it: the rename is the claim.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, statSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { lutimesNs, spreadDirectories } from '@flotilla/syscalls';
import type { SyncRequest } from './fileSync.ts';
import { KnownDirectory, mostKnownBytes } from './knownDirectory.ts';

export interface ContextCopy {
  readonly path: string;
  readonly known: KnownDirectory;
  /** @param isWhole - otherwise it is of no use to anybody. */
  release(isWhole: boolean): Promise<void>;
}

export interface KeptContext {
  readonly id: string;
  readonly path: string;
  readonly isInUse: boolean;
  readonly lastUsed: Date;
  readonly created: Date;
}

/** Kept for builds to come; older ones go. */
const mostKept = 24;

/** What this instance knows of a copy that it has let go; of use while nobody else has had it since. */
interface Memory {
  readonly known: KnownDirectory;
  /** Its times: every release sets one that no other has. */
  readonly mark: string;
}

/** Of a request that is remembered, in characters: one that is larger is not. */
const longestRequest = 64 * 1024;

const nanosecondsAMillisecond = 1_000_000;

export class ContextCopies {
  private readonly root: string;
  private readonly instance: string;
  private readonly memories = new Map<string, Memory>();
  /** What builds last asked their clients for, by their keys. */
  private readonly requests = new Map<string, SyncRequest>();

  constructor(root: string, instance: string) {
    this.root = root;
    this.instance = instance;
    mkdirSync(root, { recursive: true, mode: 0o711 });
    spreadDirectories(root);
  }

  /** Takes away what died in the hands of an instance that is gone. */
  async clear(isAlive: (instance: string) => boolean): Promise<void> {
    for (const name of readdirSync(this.root)) {
      const user = userOf(name);
      if (user === '' || (user !== this.instance && isAlive(user))) continue;
      await rm(join(this.root, name), { recursive: true, force: true });
    }
  }

  /** The copy of the last build with this key, or an empty directory. */
  claim(key: string): ContextCopy {
    const digest = createHash('sha256').update(key).digest('hex').slice(0, 32);
    for (const name of readdirSync(this.root).filter((each) => each.startsWith(`${digest}-`) && userOf(each) === '')) {
      const known = this.recall(name);
      const path = this.rename(name, `${name}.${this.instance}`);
      if (path !== undefined) return this.claimed(name, path, known);
    }
    const name = `${digest}-${randomBytes(8).toString('hex')}`;
    const path = join(this.root, `${name}.${this.instance}`);
    mkdirSync(path, { mode: 0o755 });
    return this.claimed(name, path, new KnownDirectory());
  }

  /** What the last build with this key has asked for, as far as that is remembered. */
  lastRequest(key: string): SyncRequest | undefined {
    return this.requests.get(key);
  }

  noteRequest(key: string, request: SyncRequest): void {
    this.requests.delete(key);
    const length = [...request.paths, ...request.excludes].reduce((sum, each) => sum + each.length, 0);
    if (length > longestRequest) return;
    this.requests.set(key, request);
    const [oldest] = this.requests.keys();
    if (this.requests.size > mostKept && oldest !== undefined) this.requests.delete(oldest);
  }

  private recall(name: string): KnownDirectory {
    const memory = this.memories.get(name);
    this.memories.delete(name);
    return memory !== undefined && memory.mark === this.markOf(name) ? memory.known : new KnownDirectory();
  }

  private remember(name: string, known: KnownDirectory): void {
    const mark = this.markOf(name);
    // Without its list nothing is known: digests by themselves say nothing of what the client has next.
    if (mark === undefined || known.listing === undefined) return;
    this.memories.set(name, { known, mark });
    let bytes = 0;
    for (const [each, memory] of [...this.memories].reverse()) {
      bytes += memory.known.sizeBytes;
      if (bytes > mostKnownBytes) this.memories.delete(each);
    }
  }

  private markOf(name: string): string | undefined {
    const stat = statSync(join(this.root, name), { throwIfNoEntry: false, bigint: true });
    return stat === undefined ? undefined : `${stat.mtimeNs} ${stat.ctimeNs}`;
  }

  private claimed(name: string, path: string, known: KnownDirectory): ContextCopy {
    return {
      path,
      known,
      release: async (isWhole) => {
        if (isWhole) {
          const now = BigInt(Date.now()) * BigInt(nanosecondsAMillisecond) + BigInt(randomInt(nanosecondsAMillisecond));
          lutimesNs(path, now, now);
          if (this.rename(`${name}.${this.instance}`, name) !== undefined) this.remember(name, known);
          await this.forgetOldest();
        } else await rm(path, { recursive: true, force: true });
      },
    };
  }

  /** Undefined when another instance was faster. */
  private rename(from: string, to: string): string | undefined {
    try {
      renameSync(join(this.root, from), join(this.root, to));
      return join(this.root, to);
    } catch {
      return undefined;
    }
  }

  list(): KeptContext[] {
    return readdirSync(this.root).flatMap((name) => {
      const path = join(this.root, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat === undefined) return [];
      return [{ id: idOf(name), path, isInUse: userOf(name) !== '', lastUsed: stat.mtime, created: stat.birthtime }];
    });
  }

  /** Those of them that nobody uses. */
  async remove(ids: ReadonlySet<string>): Promise<void> {
    for (const { id, isInUse, path } of this.list()) {
      if (isInUse || !ids.has(id)) continue;
      this.memories.delete(id);
      const grave = this.rename(path.slice(this.root.length + 1), `${id}.${this.instance}`);
      if (grave !== undefined) await rm(grave, { recursive: true, force: true });
    }
  }

  private async forgetOldest(): Promise<void> {
    const free = this.list().filter(({ isInUse }) => !isInUse);
    free.sort((a, b) => b.lastUsed.getTime() - a.lastUsed.getTime());
    const old = free.slice(mostKept).map(({ id }) => id);
    if (old.length > 0) await this.remove(new Set(old));
  }
}

function userOf(name: string): string {
  const dot = name.indexOf('.');
  return dot < 0 ? '' : name.slice(dot + 1);
}

function idOf(name: string): string {
  return name.split('.', 1)[0] ?? name;
}
