import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dialTicket } from '@flotilla/streams';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTimeOf } from '../src/processes.ts';
import { create, inspect, readTicket, remove, type Stack, startStack } from './stack.ts';

let stack: Stack;
let id: string;
beforeAll(async () => {
  stack = await startStack();
  id = await create(stack, ['sleep', '300']);
  await stack.containers.start({ container: id });
});
afterAll(async () => {
  await remove(stack, id);
  await stack.stop();
});

async function createExec(config: Record<string, unknown>, container = id): Promise<string> {
  return (
    await stack.execs.create({ container, configJson: Buffer.from(JSON.stringify({ AttachStdout: true, AttachStderr: true, ...config })) })
  ).id;
}

const attached = { detach: false, tty: false, height: 0, width: 0 };

async function inspectExec(exec: string) {
  return JSON.parse((await stack.execs.inspect({ exec })).execJson.toString()) as {
    Running: boolean;
    ExitCode: number | null;
    Pid: number;
  };
}

async function run(
  config: Record<string, unknown>,
  tty = config.Tty === true,
): Promise<{ stdout: string; stderr: string; code: number | null }> {
  const exec = await createExec(config);
  const { ticket } = await stack.execs.start({ exec, ...attached, tty });
  const output = await readTicket(ticket, { tty });
  return { ...output, code: (await inspectExec(exec)).ExitCode };
}

describe('an exec', () => {
  test.each([
    [
      'has the environment, user and directory that were asked for',
      { Cmd: ['sh', '-c', 'echo $X; id -u; pwd'], Env: ['X=1'], User: 'nobody', WorkingDir: '/tmp' },
      '1\n65534\n/tmp\n',
      0,
    ],
    ['inherits those of the container', { Cmd: ['sh', '-c', 'echo $FROM_IMAGE; id -u; pwd'] }, 'yes\n0\n/\n', 0],
    ['with a terminal has one', { Cmd: ['sh', '-c', 'test -t 0 && echo tty; exit 3'], Tty: true }, 'tty\r\n', 3],
    ['shows only the stream that was asked for', { Cmd: ['sh', '-c', 'echo out; echo err >&2'], AttachStderr: false }, 'out\n', 0],
  ])('%s', async (_name, config, stdout, code) => {
    expect(await run(config)).toEqual({ stdout, stderr: '', code });
  });

  test('comes in frames or raw as its start says, whether it has a terminal or not', async () => {
    const command = { Cmd: ['sh', '-c', 'echo a line'] };
    expect(await run({ ...command, Tty: true }, false)).toEqual({ stdout: 'a line\r\n', stderr: '', code: 0 });
    expect(await run(command, true)).toEqual({ stdout: 'a line\n', stderr: '', code: 0 });
  });

  test('of a command that is not there says so on its stream, with 127', async () => {
    const result = await run({ Cmd: ['nope'] });
    expect(result.stdout).toContain(
      'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH',
    );
    expect(result.code).toBe(127);
  });

  test('that prints faster than its client reads waits, and loses nothing', async () => {
    const bytes = 24 * 1024 * 1024;
    const exec = await createExec({ Cmd: ['sh', '-c', `head -c ${bytes} /dev/zero`], Tty: false, AttachStderr: false });
    const { ticket } = await stack.execs.start({ exec, ...attached });
    const stream = await dialTicket(ticket ?? { address: '', token: '' });
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect((await inspectExec(exec)).Running).toBe(true);
    let received = 0;
    let frames = 0;
    let left = 0;
    let header = Buffer.alloc(0);
    for await (const chunk of stream) {
      // Counts what is in the frames.
      for (let at = 0; at < chunk.length; ) {
        if (left === 0) {
          const need = 8 - header.length;
          header = Buffer.concat([header, chunk.subarray(at, at + need)]);
          at += need;
          if (header.length < 8) break;
          left = header.readUInt32BE(4);
          header = Buffer.alloc(0);
          frames++;
          continue;
        }
        const taken = Math.min(left, chunk.length - at);
        received += taken;
        left -= taken;
        at += taken;
      }
    }
    expect(frames).toBeGreaterThan(1);
    expect(received).toBe(bytes);
    expect((await inspectExec(exec)).ExitCode).toBe(0);
  });

  test('that nobody attaches to runs by itself', async () => {
    const exec = await createExec({ Cmd: ['sh', '-c', 'sleep 0.2; exit 6'] });
    expect((await stack.execs.start({ exec, ...attached, detach: true })).ticket).toBeUndefined();
    expect((await inspectExec(exec)).Running).toBe(true);
    expect(await waitFor(async () => (await inspectExec(exec)).ExitCode ?? undefined, { what: 'its exit code' })).toBe(6);
  });

  test('is shown by the container while it runs, and cannot be started twice', async () => {
    const exec = await createExec({ Cmd: ['sleep', '60'] });
    await stack.execs.start({ exec, ...attached, detach: true });
    expect((await inspect(stack, id)).ExecIDs).toEqual([exec]);
    await expect(stack.execs.start({ exec, ...attached })).rejects.toThrow(`exec ${exec} is already running`);
    process.kill((await inspectExec(exec)).Pid, 'SIGKILL');
    expect(await waitFor(async () => (await inspectExec(exec)).ExitCode ?? undefined, { what: 'its exit code' })).toBe(137);
    expect((await inspect(stack, id)).ExecIDs).toBeNull();
  });

  test('is told of when its container has ended, until the next run has', async () => {
    const other = await create(stack, ['sleep', '300']);
    const execs: string[] = [];
    for (let run = 0; run < 2; run++) {
      await stack.containers.start({ container: other });
      const [idle = '', left = '', ended = ''] = await Promise.all([0, 1, 2].map(() => createExec({ Cmd: ['sleep', '300'] }, other)));
      for (const exec of [left, ended]) await stack.execs.start({ exec, ...attached, detach: true });
      process.kill((await inspectExec(ended)).Pid, 'SIGTERM');
      await waitFor(async () => (await inspectExec(ended)).ExitCode === 143, { what: 'one to end' });
      if (run > 0) await expect(stack.execs.start({ exec: execs[0] ?? '', ...attached })).rejects.toThrow('No such exec instance');
      await stack.containers.kill({ container: other, signal: '' });
      await expect(stack.execs.start({ exec: idle, ...attached })).rejects.toThrow(`No such exec instance: ${idle}`);
      expect(await inspectExec(left)).toMatchObject({ Running: false, ExitCode: 137 });
      expect(await inspectExec(ended)).toMatchObject({ Running: false, ExitCode: 143 });
      expect(stack.events.filter(({ action, attributes }) => action === 'exec_die' && attributes.execID === left)).toHaveLength(1);
      for (const exec of execs) await expect(stack.execs.inspect({ exec })).rejects.toThrow('No such exec instance');
      execs.splice(0, 3, idle, left, ended);
    }
    await remove(stack, other);
  });

  test('is followed by one of those that are left when its instance leaves, and when one is killed', async () => {
    const makerOf = (exec: string): string => readFileSync(join(stack.execRoot, 'container-service/execs', exec, 'maker'), 'utf8');
    const deaths = (exec: string): number =>
      stack.events.filter(({ action, attributes }) => action === 'exec_die' && attributes.execID === exec).length;
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const another = await stack.startAnother();
      const execs: string[] = [];
      const ofAnother = () => execs.filter((exec) => makerOf(exec).startsWith(`exec-${another.pid}-`));
      await waitFor(
        async () => {
          execs.push(await createExec({ Cmd: ['sh', '-c', 'while test ! -e /tmp/over; do sleep 0.1; done; exit 6'] }));
          await stack.execs.start({ exec: execs.at(-1) ?? '', ...attached, detach: true });
          // Calls go round the two: with a third one it is not always the same that starts.
          await inspectExec(execs.at(-1) ?? '');
          return ofAnother().length > 1;
        },
        { what: 'execs of the other instance' },
      );
      await another.end(signal);
      await waitFor(() => ofAnother().length === 0, { what: 'them to be taken over' });
      await run({ Cmd: ['touch', '/tmp/over'] });
      for (const exec of execs) {
        expect(await waitFor(async () => (await inspectExec(exec)).ExitCode ?? undefined, { what: 'its exit code' })).toBe(6);
        // Who relayed events may have been the one that is gone.
        await waitFor(() => deaths(exec) > 0, { what: 'its end to be told' });
      }
      await run({ Cmd: ['rm', '/tmp/over'] });
      expect(execs.map(deaths)).toEqual(execs.map(() => 1));
    }
  });

  test('is gone when its container is', async () => {
    const other = await create(stack, ['sleep', '300']);
    await stack.containers.start({ container: other });
    const exec = await createExec({ Cmd: ['sleep', '300'] }, other);
    await stack.execs.start({ exec, ...attached, detach: true });
    const { Pid } = await inspectExec(exec);
    await remove(stack, other);
    await waitFor(() => startTimeOf(Pid) === undefined, { what: 'its process to be gone' });
    await expect(stack.execs.inspect({ exec })).rejects.toThrow(`No such exec instance: ${exec}`);
    await expect(createExec({ Cmd: ['true'] }, other)).rejects.toThrow(`No such container: ${other}`);
  });
});

test('a health probe is told of as an exec', async () => {
  const Healthcheck = { Test: ['CMD', 'true'], Interval: 200_000_000, Timeout: 30_000_000_000, Retries: 3 };
  const probed = await create(stack, ['sleep', '300'], { config: { Healthcheck } });
  await stack.containers.start({ container: probed });
  const told = () => stack.events.filter(({ actorId, action }) => actorId === probed && action.startsWith('exec_'));
  await waitFor(() => told().length >= 3, { timeoutMs: 30_000, what: 'a probe to be told of' });
  const [created, started, died] = told();
  expect([created?.action, started?.action, died?.action]).toEqual(['exec_create: true ', 'exec_start: true ', 'exec_die']);
  expect(died?.attributes).toMatchObject({ execID: created?.attributes.execID, exitCode: '0' });
  expect(started?.attributes.execID).toBe(created?.attributes.execID);
  await remove(stack, probed);
});
