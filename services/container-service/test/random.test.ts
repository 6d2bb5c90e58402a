/**
 * Random lives of containers from several clients at once, while container-service, conmon and containers' own processes are killed. After each round inspect, events,
 * records, processes, mounts, control groups and files must agree; at the end the events must tell a life that can be, and nothing may be left.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { agreeSoon, generator, isOf, listAll, livesTold, nothingLeft } from './agreement.ts';
import { create, readTicket, remove, type Stack, startStack } from './stack.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack.stop();
});

const rounds = process.env.FLOTILLA_SOAK === undefined ? 4 : 40;
const clients = 3;
const stepsARound = 8;
const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);

const commands = [
  ['sleep', '300'],
  ['sh', '-c', 'exit 3'],
  ['sh', '-c', 'echo out; sleep 0.05'],
  ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.02; done'],
];

const probed = { Test: ['CMD', 'test', '-e', '/bin/sh'], Interval: 200_000_000, Timeout: 2_000_000_000, Retries: 1 };

/** Runs a command in a container and reads what it says to the end; a killed service cuts that off. */
async function runExec(container: string, command: readonly string[]): Promise<void> {
  const config = { AttachStdout: true, AttachStderr: true, Cmd: command };
  const { id } = await stack.execs.create({ container, configJson: Buffer.from(JSON.stringify(config)) });
  const { ticket } = await stack.execs.start({ exec: id, detach: false, tty: false, height: 0, width: 0 });
  await readTicket(ticket).catch(() => undefined);
}

/** One act of a client. What the state of a container forbids at that moment, or a killed service cannot answer, is no failure of the test. */
async function act(random: () => number): Promise<void> {
  const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(random() * from.length)];
  const container = pick(await listAll(stack).catch(() => []))?.Id ?? '';
  const { containers } = stack;
  const acts: (() => Promise<unknown>)[] = [
    () => create(stack, pick(commands) ?? ['true'], { hostConfig: { AutoRemove: random() < 0.3 } }),
    () => create(stack, pick(commands) ?? ['true']),
    () => create(stack, pick(commands) ?? ['true'], { config: { Healthcheck: probed }, hostConfig: { RestartPolicy: onFailure } }),
    () => containers.start({ container }),
    () => containers.start({ container }),
    () => containers.stop({ container, signal: '', timeoutSeconds: 0 }),
    () => containers.kill({ container, signal: '' }),
    () => containers.restart({ container, signal: '', timeoutSeconds: 0 }),
    () => containers.pause({ container }),
    () => containers.unpause({ container }),
    () => containers.rename({ container, newName: `renamed_${Math.floor(random() * 1e9)}` }),
    () => runExec(container, pick(commands.slice(1, 3)) ?? ['true']),
    () => containers.update({ container, updateJson: Buffer.from(JSON.stringify({ Memory: pick(memories), MemorySwap: -1 })) }),
    () => containers.update({ container, updateJson: Buffer.from(JSON.stringify({ RestartPolicy: onFailure })) }),
    () => (random() < 0.2 ? containers.prune({ filters: {} }) : Promise.resolve()),
    () => containers.remove({ container, force: random() < 0.5, removeVolumes: true, removeLink: false }),
  ];
  await pick(acts)?.().catch((error: unknown) => {
    expect(String(error)).not.toMatch(/TypeError|ReferenceError|ENOENT|EINVAL|SyscallError/);
  });
}

const onFailure = { Name: 'on-failure', MaximumRetryCount: 2 };
const memories = [32, 64, 128].map((megabytes) => megabytes * 1024 * 1024);

/** Kills something that is not ours to lose. */
async function kill(random: () => number): Promise<void> {
  const what = random();
  if (what < 0.4) return await stack.crash();
  const runs = join(stack.execRoot, 'container-service/runs');
  const bundles = readdirSync(runs);
  const bundle = bundles[Math.floor(random() * bundles.length)];
  if (bundle === undefined) return;
  try {
    const pid = Number(readFileSync(join(runs, bundle, what < 0.7 ? 'monitor.pid' : 'pid'), 'utf8'));
    if (isOf(pid, bundle)) process.kill(pid, 'SIGKILL');
  } catch {
    // It was gone before we came.
  }
}

test(`random lives, seed ${seed}`, { timeout: rounds * 60_000 }, async () => {
  const random = generator(seed);
  for (let round = 0; round < rounds; round++) {
    const acting = Array.from({ length: clients }, async () => {
      for (let step = 0; step < stepsARound; step++) await act(random);
    });
    await new Promise((resolve) => setTimeout(resolve, random() * 400));
    await kill(random);
    await Promise.all(acting);
    await agreeSoon(stack, `seed ${seed}`);
  }
  for (const { Id } of await listAll(stack)) await remove(stack, Id).catch(() => undefined);
  await waitFor(async () => (await listAll(stack)).length === 0, { what: 'every container to be gone' });
  await agreeSoon(stack, `seed ${seed}`);
  const count = (wanted: string): number => stack.events.filter(({ action }) => action === wanted).length;
  await waitFor(() => count('create') === count('destroy'), { what: 'every removal to be told' });
  livesTold(stack, `seed ${seed}`);
  await nothingLeft(stack);
});
