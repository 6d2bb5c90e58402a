/** What is left of containers when container-service is killed without a word: everything, and nothing too much. */
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { WaitCondition } from '@flotilla/contracts/flotilla/container/v1/containers';
import { isNotModified } from '@flotilla/errors';
import { dialTicket, StdcopyDemultiplexer, type Ticket } from '@flotilla/streams';
import { tryLockFile } from '@flotilla/syscalls';
import { waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { agreeSoon } from './agreement.ts';
import { create, inspect, logsOf, readTicket, remove, type Stack, startStack, wait } from './stack.ts';

let stack: Stack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack.stop();
});

test('a container goes on, and its log and its end are those of a service that never died', async () => {
  const id = await create(stack, ['sh', '-c', 'trap "exit 7" TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done']);
  await stack.containers.start({ container: id });
  const before = (await inspect(stack, id)).State.Pid;
  await stack.crash();
  expect((await inspect(stack, id)).State).toMatchObject({ Status: 'running', Pid: before });
  const ended = wait(stack, id);
  await stack.containers.kill({ container: id, signal: 'SIGTERM' });
  expect(await ended).toBe(7);
  const lines = (await logsOf(stack, id)).stdout.trimEnd().split('\n').map(Number);
  expect(lines.length).toBeGreaterThan(10);
  expect(lines).toEqual(lines.map((_, index) => index + 1));
  await remove(stack, id);
});

test('an end while nobody looked is found', async () => {
  const id = await create(stack, ['sh', '-c', 'sleep 0.3; exit 9']);
  await stack.containers.start({ container: id });
  await stack.crash(() => new Promise((resolve) => setTimeout(resolve, 700)));
  expect(await wait(stack, id)).toBe(9);
  expect((await inspect(stack, id)).State).toMatchObject({ Status: 'exited', ExitCode: 9 });
  await remove(stack, id);
});

test('an end that was cut off behind its control group is finished', async () => {
  const id = await create(stack, ['sleep', '60']);
  await stack.containers.start({ container: id });
  const { Pid } = (await inspect(stack, id)).State;
  await stack.crash(async () => {
    process.kill(Pid, 'SIGKILL');
    const group = stack.groupOf(id);
    await waitFor(() => existsSync(join(stack.execRoot, 'container-service/exits', id)) && group.remove(), {
      what: 'its group to be gone',
    });
  });
  expect(await wait(stack, id)).toBe(137);
  await remove(stack, id);
});

test('the exit file is good until the record tells of the end, and for no later run', async () => {
  const id = await create(stack, ['sh', '-c', 'trap "exit 9" TERM; while :; do sleep 0.02; done']);
  const exitFile = join(stack.execRoot, 'container-service/exits', id);
  await stack.containers.start({ container: id });
  const { Pid } = (await inspect(stack, id)).State;
  // Cut off when all that the run held was free.
  await stack.crash(async () => {
    process.kill(Pid, 'SIGTERM');
    await waitFor(() => existsSync(exitFile), { what: 'its exit file' });
    rmSync(join(stack.execRoot, 'container-service/runs', id), { recursive: true });
  });
  expect(await wait(stack, id)).toBe(9);
  await waitFor(() => !existsSync(exitFile), { what: 'the exit file to be gone' });
  // Cut off between the record and the file: it says nothing of the run that follows.
  await stack.crash(async () => writeFileSync(exitFile, '9'));
  expect(existsSync(exitFile)).toBe(false);
  await stack.containers.start({ container: id });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect((await inspect(stack, id)).State.Status).toBe('running');
  await remove(stack, id);
});

test('a container that was to remove itself is gone', async () => {
  const id = await create(stack, ['sleep', '0.3'], { hostConfig: { AutoRemove: true } });
  await stack.containers.start({ container: id });
  await stack.crash(() => new Promise((resolve) => setTimeout(resolve, 700)));
  await waitFor(async () => (await inspect(stack, id).catch(() => undefined)) === undefined, { what: 'its removal' });
  expect(existsSync(join(stack.directory, 'snapshots', id))).toBe(false);
});

test('a pause that is cut off is told and done, or neither', async () => {
  const id = await create(stack, ['sleep', '60']);
  await stack.containers.start({ container: id });
  for (const afterMs of [1, 3, 5, 10]) {
    const change = (await inspect(stack, id)).State.Paused ? 'unpause' : 'pause';
    const changed = stack.containers[change]({ container: id }).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await stack.crash();
    await changed;
    await agreeSoon(stack, `${change} cut off after ${afterMs} ms`);
  }
  await remove(stack, id);
});

test('a killed monitor ends its container', async () => {
  const id = await create(stack, ['sleep', '60']);
  await stack.containers.start({ container: id });
  const monitor = Number(readFileSync(join(stack.execRoot, 'container-service/runs', id, 'monitor.pid'), 'utf8'));
  process.kill(monitor, 'SIGKILL');
  expect(await wait(stack, id)).toBe(137);
  await remove(stack, id);
});

test('a killed monitor ends a container that stands still', async () => {
  const id = await create(stack, ['sh', '-c', 'sleep 60 & sleep 60']);
  await stack.containers.start({ container: id });
  await stack.containers.pause({ container: id });
  process.kill(Number(readFileSync(join(stack.execRoot, 'container-service/runs', id, 'monitor.pid'), 'utf8')), 'SIGKILL');
  expect(await wait(stack, id)).toBe(137);
  expect(stack.groupOf(id).processes()).toEqual([]);
  await agreeSoon(stack, 'killed while paused');
  await remove(stack, id);
});

test('starts that are cut off leave nothing, and may be made again', async () => {
  const ids = await Promise.all(Array.from({ length: 4 }, () => create(stack, ['sleep', '60'])));
  const starts = ids.map((id) => stack.containers.start({ container: id }).catch(() => undefined));
  await new Promise((resolve) => setTimeout(resolve, 25));
  await stack.crash();
  await Promise.all(starts);
  for (const id of ids) {
    await stack.containers.start({ container: id }).catch((error: unknown) => expect(isNotModified(error), String(error)).toBe(true));
    expect((await inspect(stack, id)).State.Status).toBe('running');
  }
  for (const id of ids) await remove(stack, id);
  await waitFor(() => readdirSync(join(stack.execRoot, 'container-service/runs')).length === 0, { what: 'no bundle left' });
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(stack.directory);
});

/** Creates a container and kills the service while the runtime starts it. */
async function startCutOff(command: readonly string[], meanwhile: (id: string) => Promise<void>): Promise<string> {
  const id = await create(stack, command, { hostConfig: { Runtime: 'slow' } });
  const cut = stack.containers.start({ container: id }).catch(() => undefined);
  await waitFor(() => existsSync(stack.slowRuntimeBegan), { what: 'the runtime to begin' });
  await stack.crash(() => meanwhile(id));
  await cut;
  rmSync(stack.slowRuntimeBegan);
  return id;
}

test('a start that was cut off is the start of what came up', async () => {
  const id = await startCutOff(['sh', '-c', 'echo once; sleep 60'], async () => undefined);
  await stack.containers.start({ container: id }).catch((error: unknown) => expect(isNotModified(error), String(error)).toBe(true));
  const { State } = await inspect(stack, id);
  expect(State).toMatchObject({ Status: 'running', Running: true });
  expect(stack.groupOf(id).processes()).toContain(State.Pid);
  expect((await logsOf(stack, id)).stdout).toBe('once\n');
  await stack.containers.kill({ container: id, signal: '' });
  expect((await inspect(stack, id)).State.ExitCode).toBe(137);
  await remove(stack, id);
  expect(stack.events.filter(({ actorId, action }) => actorId === id && action === 'start')).toHaveLength(1);
});

test('an end that came before anybody knew of the start is told with its exit code', async () => {
  const id = await startCutOff(['sh', '-c', 'echo once; exit 5'], (container) =>
    waitFor(() => existsSync(join(stack.execRoot, 'container-service/exits', container)), { what: 'its exit file' }).then(() => undefined),
  );
  await waitFor(async () => (await inspect(stack, id)).State.Status === 'exited', { what: 'its end' });
  expect((await inspect(stack, id)).State).toMatchObject({ Status: 'exited', ExitCode: 5 });
  expect((await logsOf(stack, id)).stdout).toBe('once\n');
  await remove(stack, id);
});

test('who stops a container whose start was cut off stops it', async () => {
  const id = await startCutOff(['sleep', '60'], async () => undefined);
  await stack.containers.stop({ container: id, signal: 'SIGKILL', timeoutSeconds: 0 });
  expect((await inspect(stack, id)).State).toMatchObject({ Status: 'exited', ExitCode: 137 });
  expect(stack.groupOf(id).processes()).toEqual([]);
  await remove(stack, id);
});

/** Between a holder of tickets and whoever serves them: what breaks while both live. */
class Link {
  private readonly sockets = new Set<Socket>();
  private readonly servers: Server[] = [];
  isDown = false;

  /** The same ticket, by way of this link. */
  async over(ticket: Ticket): Promise<Ticket> {
    const path = join(stack.directory, `link-${ticket.token.slice(0, 12)}.sock`);
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ path: ticket.address.slice('unix:'.length), allowHalfOpen: true });
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        this.sockets.add(from.on('error', () => from.destroy()));
        from.on('close', () => setTimeout(() => to.destroy()));
        from.pipe(to);
      }
    }).listen(path);
    this.servers.push(server);
    await once(server, 'listening');
    return { ...ticket, address: `unix:${path}` };
  }

  cut(): void {
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
  }

  close(): void {
    this.cut();
    for (const server of this.servers) server.close();
  }
}

/** A client that feeds a container without a terminal, as `docker run -i` does: its stream goes on at the next instance. */
async function feeder(id: string, link?: Link): Promise<{ stream: Duplex; output: () => string }> {
  const asked = { container: id, logs: false, stream: true, stdin: true, stdout: true, stderr: true, detachKeys: '' };
  const promised = async (ticket: Ticket | undefined): Promise<Ticket> => {
    if (ticket === undefined) throw new Error('no ticket');
    return link === undefined ? ticket : link.over(ticket);
  };
  const resume = async (cursor: string): Promise<Ticket> => {
    if (link?.isDown === true) throw new Error('the link is down');
    return promised((await stack.containers.attach({ ...asked, cursor })).ticket);
  };
  const lastWords = async (): Promise<Buffer> => Buffer.alloc(0);
  const stream = await dialTicket(await promised((await stack.containers.attach(asked)).ticket), { resume, lastWords });
  let output = '';
  const frames = new StdcopyDemultiplexer();
  stream.on('data', (chunk: Buffer) => {
    for (const { payload } of frames.push(chunk)) output += payload.toString();
  });
  return { stream, output: () => output };
}

const fed = { OpenStdin: true, StdinOnce: true };

function keepers(id: string): number {
  const monitor = readFileSync(join(stack.execRoot, 'container-service/runs', id, 'monitor.pid'), 'utf8').trim();
  return readdirSync('/proc').filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(`tail\0--pid=${monitor}\0`);
    } catch {
      return false;
    }
  }).length;
}

test('what is sent to a container without a terminal arrives once, over two deaths, and then its end', async () => {
  const id = await create(stack, ['sh', '-c', 'cat; echo over; sleep 60'], { config: fed });
  const { stream, output } = await feeder(id);
  await stack.containers.start({ container: id });
  stream.write('one\n');
  await waitFor(() => output() === 'one\n', { what: 'one' });
  await stack.crash();
  stream.write('two\n');
  await waitFor(() => output() === 'one\ntwo\n', { what: 'two' });
  await stack.crash();
  stream.end('three\n');
  await waitFor(() => output() === 'one\ntwo\nthree\nover\n', { what: 'the end' });
  await stack.containers.kill({ container: id, signal: '' });
  await once(stream, 'close');
  await remove(stack, id);
});

test('input that was under way at a death ends there, and its client is told', async () => {
  const id = await create(stack, ['sh', '-c', 'cat; echo over; sleep 60'], { config: fed });
  const { stream, output } = await feeder(id);
  await stack.containers.start({ container: id });
  stream.write('one\n');
  await waitFor(() => output() === 'one\n', { what: 'one' });
  expect(keepers(id)).toBe(1);
  const readers = join(stack.execRoot, 'container-service/readers');
  await waitFor(() => readdirSync(readers).length === 1, { what: 'the mark to go' });
  await stack.crash(async () => writeFileSync(join(readers, `${readdirSync(readers)[0]}.input`), ''));
  stream.write('two\n');
  await waitFor(() => output().includes('over\n') && output().includes('it ends here'), { what: 'the end' });
  expect(output()).not.toContain('two');
  stream.destroy();
  await remove(stack, id);
});

test('what is sent over links that break arrives once, whichever instance it is sent to then, and then its end', async () => {
  const another = await stack.startAnother();
  const link = new Link();
  const id = await create(stack, ['sh', '-c', 'cat; echo over; sleep 60'], { config: fed });
  const { stream, output } = await feeder(id, link);
  await stack.containers.start({ container: id });
  const readers = join(stack.execRoot, 'container-service/readers');
  let sent = '';
  for (let line = 0; line < 6; line++) {
    if (line > 0) link.cut();
    stream.write(`${line}\n`);
    sent += `${line}\n`;
    await waitFor(() => output() === sent, { what: `line ${line}` });
    await waitFor(() => readdirSync(readers).length === 1, { what: 'the mark to go' });
  }
  // Those that were cut have given up by then, and have ended nothing.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  link.cut();
  stream.end('last\n');
  await waitFor(() => output() === `${sent}last\nover\n`, { what: 'the end' });
  const closed = once(stream, 'close');
  await stack.containers.kill({ container: id, signal: '' });
  await closed;
  link.close();
  await remove(stack, id);
  await another.end('SIGTERM');
});

test('the input of a client that leaves ends at once, that of one whose link does not come back a little later', async () => {
  const link = new Link();
  const ids = await Promise.all([1, 2].map(() => create(stack, ['sh', '-c', 'cat; echo over; sleep 60'], { config: fed })));
  const [left = '', lost = ''] = ids;
  const clients = await Promise.all(ids.map((id) => feeder(id, link)));
  for (const [at, id] of ids.entries()) {
    await stack.containers.start({ container: id });
    clients[at]?.stream.write('one\n');
    await waitFor(() => clients[at]?.output() === 'one\n', { what: 'one' });
  }
  const ended = async (id: string): Promise<boolean> => (await logsOf(stack, id)).stdout === 'one\nover\n';
  clients[0]?.stream.destroy();
  await waitFor(() => ended(left), { timeoutMs: 1_500, what: 'the end of its input' });
  link.isDown = true;
  link.cut();
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await ended(lost)).toBe(false);
  await waitFor(() => ended(lost), { what: 'the end of its input' });
  expect(keepers(lost)).toBe(0);
  link.close();
  for (const id of ids) await remove(stack, id);
});

test('an attached client of an exec loses its stream, the exec does not end', async () => {
  const id = await create(stack, ['sleep', '60']);
  await stack.containers.start({ container: id });
  const config = { Cmd: ['sh', '-c', 'sleep 1; exit 4'], AttachStdout: true };
  const exec = await stack.execs.create({ container: id, configJson: Buffer.from(JSON.stringify(config)) });
  const { ticket } = await stack.execs.start({ exec: exec.id, detach: false, tty: false, height: 0, width: 0 });
  const output = readTicket(ticket).catch(() => undefined);
  await waitFor(async () => JSON.parse((await stack.execs.inspect({ exec: exec.id })).execJson.toString()).Running, { what: 'the exec' });
  await stack.crash();
  await output;
  const code = await waitFor(
    async () => JSON.parse((await stack.execs.inspect({ exec: exec.id })).execJson.toString()).ExitCode ?? undefined,
    {
      what: 'its exit code',
    },
  );
  expect(code).toBe(4);
  await remove(stack, id);
});

test('who has lost its lease keeps others from the container as long as it lives', async () => {
  const id = await create(stack, ['sleep', '60']);
  // What an instance does that was stopped for longer than its lease, and has not ended.
  const busy = openSync(join(stack.directory, 'data/container-service/containers', id), 'r');
  expect(tryLockFile(busy)).toBe(true);
  let started = false;
  const start = stack.containers.start({ container: id }).then(() => {
    started = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(started).toBe(false);
  closeSync(busy);
  await start;
  await remove(stack, id);
});

test('a wait begun before the crash can be begun again', async () => {
  const id = await create(stack, ['sh', '-c', 'sleep 1; exit 6']);
  await stack.containers.start({ container: id });
  const lost = wait(stack, id, WaitCondition.NEXT_EXIT).catch(() => undefined);
  await stack.crash();
  await lost;
  expect(await wait(stack, id)).toBe(6);
  await remove(stack, id);
});
