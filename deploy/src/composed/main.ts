/** One process of a stack in a container of its own: `main.ts PROCESS` becomes it, once `flotilla prepare` has said how. */
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { isServed } from '@flotilla/service-kit/isServed';
import { forInstance } from '../stack/plan.ts';
import { instanceFile, readStartFile, type StartFile, startFilePath } from './startFile.ts';

const [execRoot = '', name = ''] = process.argv.slice(2);
const path = startFilePath(execRoot, name);
const pollMs = 100;
const saysItWaitsAfterMs = 5_000;
/** A socket this old that nobody serves is a dead instance's, and not one that is about to be served. */
const deadAfterMs = 10_000;

async function awaitStartFile(): Promise<StartFile> {
  for (let waitedMs = 0; ; waitedMs += pollMs) {
    const found = readStartFile(path);
    if (found !== undefined) return found;
    if (waitedMs === saysItWaitsAfterMs) process.stderr.write(`${name}: waiting for ${path}, which \`flotilla prepare\` writes\n`);
    await pause(pollMs);
  }
}

/** Removes the sockets that killed instances left in a directory. */
async function removeDeadSockets(directory: string): Promise<void> {
  for (const name of readdirSync(directory)) {
    const socket = `${directory}/${name}`;
    const found = statSync(socket, { throwIfNoEntry: false });
    if (found?.isSocket() && Date.now() - found.mtimeMs > deadAfterMs && !(await isServed(socket))) rmSync(socket, { force: true });
  }
}

async function become(): Promise<void> {
  const { command, env } = await awaitStartFile();
  const addresses = [env.FLOTILLA_GRPC_ADDRESS, env.FLOTILLA_LISTEN].filter((address) => address?.startsWith('unix:'));
  for (const address of addresses) await removeDeadSockets(dirname(address?.slice('unix:'.length) ?? ''));
  const instance = crypto.randomUUID().slice(0, 8);
  writeFileSync(instanceFile, instance);
  const [program = '', ...args] = command.map((word) => forInstance(word, instance));
  const filled = Object.fromEntries(Object.entries(env).map(([key, value]) => [key, forInstance(value, instance)]));
  if (process.execve === undefined) throw new Error('Node 24 is needed');
  process.execve(program, [program, ...args], filled);
}

await become();
