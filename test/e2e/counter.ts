/** A container that counts, and the checks that not one line of its log was lost while parts of the engine were killed. */
import { waitFor } from '@flotilla/testkit';
import { expect } from 'vitest';
import type { E2eStack } from './stack.ts';

/** Starts a container that prints 1, 2, 3, … every 10 ms until the file /end appears, then exits with 42. */
export async function startCounter(stack: E2eStack, name: string, ...args: string[]): Promise<void> {
  const script = 'i=0; while [ ! -e /end ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 42';
  await stack.host.mustDocker('run', '-d', '--name', name, ...args, stack.busybox, 'sh', '-c', script);
  await waitFor(async () => (await countedSoFar(stack, name)) > 3, { what: 'the counter to count' });
}

/** The last number printed; every number before it must be there, in order, once. */
export async function countedSoFar(stack: E2eStack, name: string): Promise<number> {
  const lines = (await stack.host.mustDocker('logs', name)).split('\n').filter(Boolean);
  expect(lines).toEqual(Array.from({ length: lines.length }, (_, index) => String(index + 1)));
  return lines.length;
}

/** The container's first process: the same one as long as the container was not started again. */
export async function pidOf(stack: E2eStack, name: string): Promise<number> {
  return Number(await stack.host.mustDocker('inspect', '-f', '{{.State.Pid}}', name));
}

/** Lets the counter end, and checks what wait and inspect say of it. */
export async function endCounter(stack: E2eStack, name: string): Promise<void> {
  // The counter may see the file and end, and take touch with it, before touch has exited.
  await stack.host.docker('exec', name, 'touch', '/end');
  expect(await stack.host.mustDocker('wait', name)).toBe('42');
  expect(await stack.host.mustDocker('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', name)).toBe('exited 42');
}
