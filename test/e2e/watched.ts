/** A docker command that runs beside the test. */
import type { E2eStack } from './stack.ts';

export interface Watched {
  readonly output: () => string;
  readonly errors: () => string;
  readonly code: Promise<number | null>;
  readonly end: () => void;
}

export function watched(stack: E2eStack, ...args: string[]): Watched {
  const child = stack.host.dockerSpawn(...args);
  const heard = { output: '', errors: '' };
  child.stdout?.on('data', (chunk: Buffer) => {
    heard.output += chunk.toString();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    heard.errors += chunk.toString();
  });
  const code = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { output: () => heard.output, errors: () => heard.errors, code, end: () => void child.kill('SIGTERM') };
}
