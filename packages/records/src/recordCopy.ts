/**
 * A second copy of a service's records, in a file of the data root: what they are made of again when Redis has lost them, whole or since some revision.
 *
 * ```
 * {"copyOf":"<engine-id>:<service>","at":"<revision>"}
 * <revision> TAB <field as JSON> TAB <document as JSON, or nothing for a record that is gone>
 * …
 * ```
 *
 * Of a field's lines the one of the highest revision counts. Lines are appended within a turn of the commit's answer and are not waited for; what is cut off at
 * the end is left out. A file that has grown is written anew beside itself and renamed.
 */
import { closeSync, fstatSync, openSync, statSync, writeSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { compareRevisions } from './revision.ts';

/** What a copy holds: fields and their JSON, up to a revision. */
export interface FoundCopy {
  readonly newest: string;
  readonly documents: ReadonlyMap<string, string>;
}

/** A record as memory has it. */
export interface CopiedRecord {
  readonly field: string;
  readonly revision: string;
  readonly document: unknown;
}

const linesPerTurn = 500;
const smallestGrowth = 4 * 1024 * 1024;
const lookEveryMs = 1_000;

/** Undefined where there is none, or one of other records. */
export async function readCopy(path: string, owner: string): Promise<FoundCopy | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const [header, ...lines] = text.split('\n');
  // What follows the last line break was cut off.
  lines.pop();
  const { copyOf, at } = headerOf(header);
  if (copyOf !== owner || at === undefined) return undefined;
  let newest = at;
  const revisions = new Map<string, string>();
  const documents = new Map<string, string>();
  for (const line of lines) {
    const found = parseLine(line);
    if (found === undefined) continue;
    const { revision, field, json } = found;
    if (compareRevisions(revision, newest) > 0) newest = revision;
    if (compareRevisions(revision, revisions.get(field) ?? '0-0') < 0) continue;
    revisions.set(field, revision);
    if (json === '') documents.delete(field);
    else documents.set(field, json);
  }
  return { newest, documents };
}

/** Undefined for a line that is damaged: Redis is given nothing that cannot be read. */
function parseLine(line: string): { revision: string; field: string; json: string } | undefined {
  const [, revision, name = '', json = ''] = /^(\d+-\d+)\t("[^\t]*")\t(.*)$/.exec(line) ?? [];
  if (revision === undefined) return undefined;
  try {
    if (json !== '') JSON.parse(json);
    return { revision, field: JSON.parse(name) as string, json };
  } catch {
    return undefined;
  }
}

function headerOf(line: string | undefined): { copyOf?: string; at?: string } {
  try {
    return JSON.parse(line ?? '') as { copyOf?: string; at?: string };
  } catch {
    return {};
  }
}

function lineOf({ field, revision, document }: CopiedRecord): string {
  return `${revision}\t${JSON.stringify(field)}\t${document === undefined ? '' : JSON.stringify(document)}\n`;
}

/** Writes the copy: one process at a time, by lease. */
export class RecordCopy {
  private readonly path: string;
  private readonly owner: string;
  private readonly all: () => { at: string; records: CopiedRecord[] };
  /** Stays true as long as this process is the one that writes. */
  private readonly isOurs: () => boolean;
  private readonly onError: (error: unknown) => void;
  private fd = -1;
  private size = 0;
  private limit = 0;
  private lines: string[] = [];
  /** Of a file that is being written anew: what has changed meanwhile. */
  private meanwhile: string[] | undefined;
  private scheduled = false;
  private lookedAt = 0;

  /** @param all - every record there is, and the revision up to which they are known. */
  constructor(options: {
    path: string;
    owner: string;
    all: () => { at: string; records: CopiedRecord[] };
    isOurs: () => boolean;
    onError: (error: unknown) => void;
  }) {
    this.path = options.path;
    this.owner = options.owner;
    this.all = options.all;
    this.isOurs = options.isOurs;
    this.onError = options.onError;
  }

  /** Writes all there is; from then on `note` appends. What is noted while it is written comes after it. */
  async begin(): Promise<void> {
    if (this.meanwhile !== undefined) return;
    const meanwhile: string[] = [];
    this.meanwhile = meanwhile;
    try {
      if (!(await this.writeAll())) return;
      this.close();
      this.fd = openSync(this.path, 'a');
      this.size = fstatSync(this.fd).size;
      this.limit = 2 * this.size + smallestGrowth;
      this.lines.unshift(...meanwhile);
      this.flush();
    } finally {
      this.meanwhile = undefined;
    }
  }

  /** @returns whether it is in place: not when another writes by now. */
  private async writeAll(): Promise<boolean> {
    const directory = dirname(this.path);
    await mkdir(directory, { recursive: true, mode: 0o711 });
    // Of writers that were killed at it.
    for (const name of await readdir(directory)) {
      if (name.startsWith(`${basename(this.path)}.`)) await rm(join(directory, name), { force: true });
    }
    const temporary = `${this.path}.${process.pid}`;
    const file = await open(temporary, 'w', 0o600);
    try {
      const { at, records } = this.all();
      await file.write(`${JSON.stringify({ copyOf: this.owner, at })}\n`);
      for (let from = 0; from < records.length; from += linesPerTurn) {
        await file.write(
          records
            .slice(from, from + linesPerTurn)
            .map(lineOf)
            .join(''),
        );
        await turn();
      }
      await file.sync();
    } finally {
      await file.close();
    }
    const isOurs = this.isOurs();
    if (isOurs) await rename(temporary, this.path);
    else await rm(temporary, { force: true });
    return isOurs;
  }

  /** A record has changed. */
  note(record: CopiedRecord): void {
    const line = lineOf(record);
    this.meanwhile?.push(line);
    if (this.fd < 0) return;
    this.lines.push(line);
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => this.flush());
  }

  private flush(): void {
    this.scheduled = false;
    if (this.fd < 0 || this.lines.length === 0) return;
    const text = Buffer.from(this.lines.join(''));
    this.lines = [];
    try {
      for (let written = 0; written < text.length; ) written += writeSync(this.fd, text, written);
      this.size += text.length;
      if (this.size > this.limit || this.isReplaced()) this.begin().catch(this.onError);
    } catch (error) {
      this.onError(error);
    }
  }

  /** Somebody has taken the file away: a whole new one is due. */
  private isReplaced(): boolean {
    if (Date.now() - this.lookedAt < lookEveryMs) return false;
    this.lookedAt = Date.now();
    return statSync(this.path, { throwIfNoEntry: false })?.ino !== fstatSync(this.fd).ino;
  }

  close(): void {
    this.flush();
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -1;
  }
}
