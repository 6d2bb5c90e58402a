/** Detach keys: the sequence that takes a client off a terminal without ending anything. */
import { InvalidParameter } from '@flotilla/errors';

const defaultKeys = Buffer.from([0x10, 0x11]);
const controls: Record<string, number> = { '@': 0, '[': 27, '\\': 28, ']': 29, '^': 30, _: 31 };

/**
 * Reads `ctrl-p,ctrl-q`, `a,ctrl-]` and the like.
 *
 * @throws InvalidParameter in dockerd's words.
 */
export function parseDetachKeys(text: string): Buffer {
  if (text === '') return defaultKeys;
  const bytes = text.split(',').map((key) => {
    if (key.length === 1 && key.charCodeAt(0) < 128) return key.charCodeAt(0);
    if (key === 'DEL') return 127;
    const control = /^ctrl-([a-z@[\\\]^_])$/.exec(key)?.[1];
    if (control === undefined) throw new InvalidParameter(`Invalid detach keys (${text}) provided`);
    return controls[control] ?? control.charCodeAt(0) - 96;
  });
  return Buffer.from(bytes);
}

/** Looks for the sequence in a client's input. What may be its beginning is held back until the next bytes tell. */
export class DetachScanner {
  private readonly keys: Buffer;
  private matched = 0;

  constructor(keys: Buffer) {
    this.keys = keys;
  }

  /** @returns the bytes to pass on, and whether the sequence is complete: what follows it is thrown away. */
  scan(input: Buffer): { output: Buffer; detached: boolean } {
    const output: number[] = [];
    for (const byte of input) {
      if (byte === this.keys[this.matched]) {
        this.matched++;
        if (this.matched === this.keys.length) return { output: Buffer.from(output), detached: true };
        continue;
      }
      output.push(...this.keys.subarray(0, this.matched));
      this.matched = byte === this.keys[0] ? 1 : 0;
      if (this.matched === 0) output.push(byte);
    }
    return { output: Buffer.from(output), detached: false };
  }
}
