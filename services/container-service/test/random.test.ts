/**
 * Random lives of containers from several clients at once, while container-service, conmon and containers' own processes are killed. After each step, of one client or of
 * several at the same time, inspect, events, records, processes, mounts, control groups and files must agree; at the end the events must tell a life that can be, and
 * nothing may be left.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerSummary } from '@flotilla/engine-api';
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

const steps = process.env.FLOTILLA_SOAK === undefined ? 40 : 400;
const mostClients = 4;
/** How often something is killed during a step. */
const killing = 0.12;
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

/**
 * One act of a client, and its name. What the state of a container forbids at that moment, or a killed service cannot answer, is no failure of the test.
 */
function act(random: () => number, known: readonly ContainerSummary[]): { told: string; done: Promise<void> } {
  const pick = <T>(from: readonly T[], otherwise: T): T => from[Math.floor(random() * from.length)] ?? otherwise;
  const container = pick(
    known.map(({ Id }) => Id),
    'none',
  );
  const command = pick(commands, ['true']);
  const limit = { Memory: pick(memories, 0), MemorySwap: -1 };
  const { containers } = stack;
  const update = (change: object): Promise<unknown> => containers.update({ container, updateJson: Buffer.from(JSON.stringify(change)) });
  const [kind, make] = pick<readonly [string, () => Promise<unknown>]>(
    [
      ['create --rm', () => create(stack, command, { hostConfig: { AutoRemove: true } })],
      ['create', () => create(stack, command)],
      ['create probed', () => create(stack, command, { config: { Healthcheck: probed }, hostConfig: { RestartPolicy: onFailure } })],
      ['start', () => containers.start({ container })],
      ['start', () => containers.start({ container })],
      ['stop', () => containers.stop({ container, signal: '', timeoutSeconds: 0 })],
      ['kill', () => containers.kill({ container, signal: '' })],
      ['restart', () => containers.restart({ container, signal: '', timeoutSeconds: 0 })],
      ['pause', () => containers.pause({ container })],
      ['unpause', () => containers.unpause({ container })],
      ['rename', () => containers.rename({ container, newName: `renamed_${Math.floor(random() * 1e9)}` })],
      ['exec', () => runExec(container, pick(commands.slice(1, 3), ['true']))],
      ['update memory', () => update(limit)],
      ['update restart', () => update({ RestartPolicy: onFailure })],
      ['prune', () => (random() < 0.2 ? containers.prune({ filters: {} }) : Promise.resolve())],
      ['remove', () => containers.remove({ container, force: false, removeVolumes: true, removeLink: false })],
      ['remove by force', () => containers.remove({ container, force: true, removeVolumes: true, removeLink: false })],
    ],
    ['nothing', () => Promise.resolve()],
  );
  const done = make().then(
    () => undefined,
    (error: unknown) => expect(String(error)).not.toMatch(/TypeError|ReferenceError|ENOENT|EINVAL|SyscallError/),
  );
  return { told: `${kind} ${container.slice(0, 12)}`, done };
}

const onFailure = { Name: 'on-failure', MaximumRetryCount: 2 };
const memories = [32, 64, 128].map((megabytes) => megabytes * 1024 * 1024);

/** Kills something that is not ours to lose. @returns what */
async function kill(random: () => number): Promise<string> {
  const what = random();
  if (what < 0.4) {
    await stack.crash();
    return 'the service dies';
  }
  const runs = join(stack.execRoot, 'container-service/runs');
  const bundles = readdirSync(runs);
  const bundle = bundles[Math.floor(random() * bundles.length)];
  if (bundle === undefined) return 'nothing dies';
  const file = what < 0.7 ? 'monitor.pid' : 'pid';
  try {
    const pid = Number(readFileSync(join(runs, bundle, file), 'utf8'));
    if (isOf(pid, bundle)) process.kill(pid, 'SIGKILL');
  } catch {
    // It was gone before we came.
  }
  return `${file} of ${bundle.slice(0, 12)} dies`;
}

test(`random lives, seed ${seed}`, { timeout: 60_000 + steps * 5_000 }, async () => {
  const random = generator(seed);
  for (let step = 0; step < steps; step++) {
    const known = await listAll(stack);
    const acts = Array.from({ length: 1 + Math.floor(random() * mostClients) }, () => act(random, known));
    const told = acts.map((each) => each.told);
    if (random() < killing) {
      await new Promise((resolve) => setTimeout(resolve, random() * 200));
      told.push(await kill(random));
    }
    await Promise.all(acts.map(({ done }) => done));
    await agreeSoon(stack, `seed ${seed}, step ${step}: ${told.join(', ')}`);
  }
  for (const { Id } of await listAll(stack)) await remove(stack, Id).catch(() => undefined);
  await waitFor(async () => (await listAll(stack)).length === 0, { what: 'every container to be gone' });
  await agreeSoon(stack, `seed ${seed}`);
  const count = (wanted: string): number => stack.events.filter(({ action }) => action === wanted).length;
  await waitFor(() => count('create') === count('destroy'), { what: 'every removal to be told' });
  livesTold(stack, `seed ${seed}`);
  await nothingLeft(stack);
});
