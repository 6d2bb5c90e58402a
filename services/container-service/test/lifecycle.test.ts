import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { isNotModified } from '@flotilla/errors';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { create, inspect, readTicket, type Stack, startStack, volumeDriverOfLostAnswers, wait } from './stack.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack.stop();
});

const attach = { logs: false, stream: true, stdin: false, stdout: true, stderr: true, detachKeys: '' };

describe('a container', () => {
  test('is created, attached, started, waited for and removed', async () => {
    const id = await create(stack, ['sh', '-c', 'echo out; echo err >&2; exit 3'], { name: 'first' });
    const { ticket } = await stack.containers.attach({ ...attach, container: id });
    const output = readTicket(ticket);
    const exit = wait(stack, id, WaitCondition.NEXT_EXIT);
    await stack.containers.start({ container: 'first' });
    expect(await output).toEqual({ stdout: 'out\n', stderr: 'err\n' });
    expect(await exit).toBe(3);
    const document = await inspect(stack, id);
    expect(document.State).toMatchObject({ Status: 'exited', ExitCode: 3, Running: false, Pid: 0 });
    expect(document.Name).toBe('/first');
    const asked = {
      container: 'first',
      follow: false,
      stdout: true,
      stderr: true,
      sinceNano: 0n,
      untilNano: 0n,
      timestamps: false,
      details: false,
    };
    expect(await readTicket((await stack.containers.logs(asked)).ticket)).toEqual({ stdout: 'out\n', stderr: 'err\n' });
    const short = await stack.containers.logs({ ...asked, stderr: false, mayBeWhole: true });
    expect(short.ticket).toBeUndefined();
    expect(short.whole?.subarray(8).toString()).toBe('out\n');
    const follower = await stack.containers.logs({ ...asked, follow: true, mayBeWhole: true });
    expect(await readTicket(follower.ticket)).toEqual({ stdout: 'out\n', stderr: 'err\n' });
    await stack.containers.remove({ container: id, force: false, removeVolumes: false, removeLink: false });
    await expect(inspect(stack, id)).rejects.toThrow(`No such container: ${id}`);
    expect(existsSync(`${stack.directory}/snapshots/${id}`)).toBe(false);
  });

  test('is started once by a call that is made again, also when its run is over', async () => {
    const id = await create(stack, ['true']);
    const askedAtNano = BigInt(Date.now()) * 1_000_000n;
    await stack.containers.start({ container: id, askedAtNano });
    expect(await wait(stack, id)).toBe(0);
    const { StartedAt } = (await inspect(stack, id)).State;
    await stack.containers.start({ container: id, askedAtNano });
    expect((await inspect(stack, id)).State).toMatchObject({ Status: 'exited', StartedAt });
    await stack.containers.start({ container: id, askedAtNano: BigInt(Date.now()) * 1_000_000n });
    expect((await inspect(stack, id)).State.StartedAt).not.toBe(StartedAt);
    expect(await wait(stack, id)).toBe(0);
  });

  test('is what a start that is made again asked for while it runs, and runs already for another', async () => {
    const id = await create(stack, ['sleep', '60']);
    const askedAtNano = BigInt(Date.now()) * 1_000_000n;
    await stack.containers.start({ container: id, askedAtNano });
    const { StartedAt } = (await inspect(stack, id)).State;
    await stack.containers.start({ container: id, askedAtNano });
    expect((await inspect(stack, id)).State).toMatchObject({ Status: 'running', StartedAt });
    await expect(stack.containers.start({ container: id })).rejects.toSatisfy(isNotModified);
    await expect(stack.containers.start({ container: id, askedAtNano: BigInt(Date.now() + 1) * 1_000_000n })).rejects.toSatisfy(
      isNotModified,
    );
    await stack.containers.remove({ container: id, force: true, removeVolumes: false, removeLink: false });
  });

  test('removes itself when it was asked to', async () => {
    const id = await create(stack, ['echo', 'gone'], { hostConfig: { AutoRemove: true } });
    const { ticket } = await stack.containers.attach({ ...attach, container: id });
    const output = readTicket(ticket);
    const exit = wait(stack, id, WaitCondition.REMOVED);
    await stack.containers.start({ container: id });
    expect((await output).stdout).toBe('gone\n');
    expect(await exit).toBe(0);
    await expect(inspect(stack, id)).rejects.toThrow('No such container');
  });

  test('reads its input to the end', async () => {
    const id = await create(stack, ['cat'], { config: { OpenStdin: true, StdinOnce: true, AttachStdin: true } });
    const { ticket } = await stack.containers.attach({ ...attach, stdin: true, container: id });
    const output = readTicket(ticket, { input: 'hello\n' });
    await stack.containers.start({ container: id });
    expect((await output).stdout).toBe('hello\n');
    expect(await wait(stack, id)).toBe(0);
  });

  test('is stopped, and killed when it does not listen', async () => {
    const id = await create(stack, ['sh', '-c', 'trap "" TERM; while true; do sleep 0.05; done']);
    await stack.containers.start({ container: id });
    const exit = wait(stack, id);
    await stack.containers.stop({ container: id, signal: '', timeoutSeconds: 1 });
    expect(await exit).toBe(137);
    expect((await inspect(stack, id)).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
  });

  test.each([
    ['data:/v', /^volume released data false$/],
    ['/v', /^volume released [0-9a-f]{64} true$/],
  ])('that cannot be made gives back its volume though the answer to taking it was lost: -v %s', async (bind, released) => {
    const before = stack.asked.length;
    const hostConfig =
      bind === '/v'
        ? { Mounts: [{ Type: 'volume', Target: bind, VolumeOptions: { DriverConfig: { Name: volumeDriverOfLostAnswers } } }] }
        : { Binds: [bind], VolumeDriver: volumeDriverOfLostAnswers };
    await expect(create(stack, ['true'], { hostConfig })).rejects.toThrow('network-volume went away before it answered');
    expect(stack.asked.slice(before).filter((call) => call.startsWith('volume'))).toEqual([expect.stringMatching(released)]);
    expect(readdirSync(join(stack.execRoot, 'container-service/drafts'))).toEqual([]);
  });

  test('tells a command that is not there from one that cannot be run', async () => {
    const absent = await create(stack, ['nope']);
    await expect(stack.containers.start({ container: absent })).rejects.toThrow(/exec: "nope": executable file not found in \$PATH/);
    expect((await inspect(stack, absent)).State).toMatchObject({ Status: 'created', ExitCode: 127 });
    const plain = await create(stack, ['/etc/plain']);
    await expect(stack.containers.start({ container: plain })).rejects.toThrow(/exec: "\/etc\/plain": permission denied/);
    expect((await inspect(stack, plain)).State.ExitCode).toBe(126);
  });
});

describe('an exec', () => {
  test('runs in the container and gives its output and exit code', async () => {
    const id = await create(stack, ['sleep', '60']);
    await stack.containers.start({ container: id });
    const config = { Cmd: ['sh', '-c', 'cat; echo err >&2; exit 5'], AttachStdin: true, AttachStdout: true, AttachStderr: true };
    const exec = await stack.execs.create({ container: id, configJson: Buffer.from(JSON.stringify(config)) });
    const { ticket } = await stack.execs.start({ exec: exec.id, detach: false, tty: false, height: 0, width: 0 });
    expect(await readTicket(ticket, { input: 'typed\n' })).toEqual({ stdout: 'typed\n', stderr: 'err\n' });
    const document = JSON.parse((await stack.execs.inspect({ exec: exec.id })).execJson.toString());
    expect(document).toMatchObject({ Running: false, ExitCode: 5, ContainerID: id });
    await stack.containers.remove({ container: id, force: true, removeVolumes: false, removeLink: false });
  });
});
