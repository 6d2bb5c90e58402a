import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ExecCarriers } from './execCarriers.ts';
import { Paths } from './paths.ts';
import { isAtWork } from './processes.ts';

let root: string;
let paths: Paths;
let carriers: ExecCarriers;
let server: Server;
const gateways: ChildProcess[] = [];
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'exec-carriers-'));
  paths = new Paths(join(root, 'data'), join(root, 'exec'));
  carriers = new ExecCarriers(paths);
  server = createServer({ allowHalfOpen: true }).listen(join(root, 'socket'));
  await once(server, 'listening');
});
afterEach(() => {
  for (const gateway of gateways.splice(0)) gateway.kill('SIGKILL');
  server.close();
  rmSync(root, { recursive: true });
});

/** A process at the other end of a stream, which closes it when it is told to. */
async function gateway(): Promise<{ child: ChildProcess; stream: Socket; closed: Promise<unknown> }> {
  const script = `const socket = require('node:net').connect(${JSON.stringify(join(root, 'socket'))}); process.stdin.once('data', () => socket.destroy())`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'ignore', 'inherit'] });
  gateways.push(child);
  const [stream] = (await once(server, 'connection')) as [Socket];
  const closed = once(stream, 'close');
  stream.on('end', () => stream.destroy()).resume();
  return { child, stream, closed };
}

it('one that closes its stream has done with it, also when it dies later', async () => {
  const { child, stream, closed } = await gateway();
  carriers.begin('e', stream);
  expect(carriers.hasDied('e')).toBe(false);
  child.stdin?.write('close');
  await closed;
  expect(readdirSync(paths.carriers)).toEqual([]);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(carriers.hasDied('e')).toBe(false);
});

it('one that dies is known as dead as soon as its stream is closed, by every instance, until the exec is forgotten', async () => {
  for (let round = 0; round < 5; round++) {
    const { child, stream, closed } = await gateway();
    carriers.begin('e', stream);
    child.kill('SIGKILL');
    await closed;
    expect(carriers.hasDied('e')).toBe(true);
    carriers.forgetBroken();
    expect(new ExecCarriers(paths).hasDied('e')).toBe(true);
    carriers.forget('e');
    expect(carriers.hasDied('e')).toBe(false);
  }
});

it('of a stream whose instance has died the carrier that lives knows', async () => {
  const { stream } = await gateway();
  carriers.begin('e', stream);
  carriers.forgetBroken();
  const file = join(paths.carriers, 'e');
  expect(existsSync(file)).toBe(true);
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), server: { pid: process.pid, start: '1' } }));
  carriers.forgetBroken();
  expect(existsSync(file)).toBe(false);
});

it('a process is at work until it ends', () => {
  const start = readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ')[19] ?? '';
  expect(isAtWork(process.pid, start)).toBe(true);
  expect(isAtWork(process.pid, '1')).toBe(false);
  expect(isAtWork(0, '')).toBe(false);
});
