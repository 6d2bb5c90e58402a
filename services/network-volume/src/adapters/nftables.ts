/** nftables through its own library, in this process: a transaction is some tenths of a millisecond, a spawn of nft(8) four or five. */
import { readdirSync } from 'node:fs';
import { System } from '@flotilla/errors';
import { netlinkPort } from '@flotilla/syscalls';
import koffi from 'koffi';

interface Library {
  readonly newContext: (flags: number) => unknown;
  readonly freeContext: (context: unknown) => void;
  readonly bufferOutput: (context: unknown) => number;
  readonly bufferError: (context: unknown) => number;
  readonly output: (context: unknown) => string | null;
  readonly error: (context: unknown) => string | null;
  readonly run: (context: unknown, commands: string) => number;
  readonly setOutputFlags: (context: unknown, flags: number) => void;
}

let loaded: Library | undefined;

function library(): Library {
  if (loaded !== undefined) return loaded;
  const nft = koffi.load('libnftables.so.1');
  loaded = {
    newContext: nft.func('void *nft_ctx_new(unsigned int flags)'),
    freeContext: nft.func('void nft_ctx_free(void *context)'),
    bufferOutput: nft.func('int nft_ctx_buffer_output(void *context)'),
    bufferError: nft.func('int nft_ctx_buffer_error(void *context)'),
    output: nft.func('const char *nft_ctx_get_output_buffer(void *context)'),
    error: nft.func('const char *nft_ctx_get_error_buffer(void *context)'),
    run: nft.func('int nft_run_cmd_from_buffer(void *context, const char *commands)'),
    setOutputFlags: nft.func('void nft_ctx_output_set_flags(void *context, unsigned int flags)'),
  };
  return loaded;
}

function netlinkDescriptors(): number[] {
  const open = readdirSync('/proc/self/fd').map(Number);
  return open.filter((fd) => netlinkPort(fd) !== undefined);
}

/** A connection to one network namespace's rules: that of the thread when it was opened. */
export class Nftables implements Disposable {
  readonly #context: unknown;
  /** The library's socket. */
  readonly #descriptor: number | undefined;

  constructor() {
    const before = new Set(netlinkDescriptors());
    this.#context = library().newContext(0);
    this.#descriptor = netlinkDescriptors().find((fd) => !before.has(fd));
    library().bufferOutput(this.#context);
    library().bufferError(this.#context);
  }

  /**
   * Runs commands as one transaction: all or nothing.
   *
   * @throws System with nft's own message as the cause.
   */
  run(commands: string): string {
    const { run, output, error } = library();
    const code = run(this.#context, commands);
    // Both buffers are emptied by being read.
    const [said, complaint] = [output(this.#context) ?? '', error(this.#context) ?? ''];
    if (code !== 0) throw new System('the packet filter refused a change', { cause: new Error(complaint.trim()) });
    return said;
  }

  /** `nft -j list …` as the parsed document; undefined when the thing is not there. */
  list(what: string): { nftables: Record<string, unknown>[] } | undefined {
    const json = 1 << 4;
    library().setOutputFlags(this.#context, json);
    try {
      return JSON.parse(this.run(`list ${what}`)) as { nftables: Record<string, unknown>[] };
    } catch {
      return undefined;
    } finally {
      library().setOutputFlags(this.#context, 0);
    }
  }

  /** What messages of changes that came from here are marked with; undefined when that is not known. */
  port(): number | undefined {
    return this.#descriptor === undefined ? undefined : netlinkPort(this.#descriptor);
  }

  close(): void {
    library().freeContext(this.#context);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
