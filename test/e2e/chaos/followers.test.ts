import { type ChildProcess, spawn } from 'node:child_process';
import { type TestHost, waitFor } from '@flotilla/testkit';
import { expect, it } from 'vitest';
import { Follower, parseEvent } from './followers.ts';
import { Journal } from './journal.ts';

it.each([
  ['12000000/<no value>/container/archive-path/a', 'archive-path', 'a', false],
  ['12000000/e/container/exec_start: sh -c ls /bin/a', 'exec_start', 'a', false],
  ['12000000/<no value>/container/die/a', 'die', 'a', true],
  ['12000000/<no value>/image/pull/127.0.0.1:5000/name:tag', 'pull', '127.0.0.1:5000/name:tag', false],
])('reads %s', (line, action, id, isStep) => {
  expect(parseEvent(line)).toMatchObject({ timeMs: 12, action, id, isStep });
});

it('one that is deaf since the death of a gateway is followed by another, one that hears goes on', async () => {
  const [output, waiting] = [7, 8];
  const clients: ChildProcess[] = [];
  const said = ['echo 1; echo 2; exec sleep 60', 'i=2; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.01; done; exec sleep 60'];
  // A client with a connection to each of two gateways, as `docker attach` has.
  const host = {
    dockerSpawn: () => {
      const client = spawn('sh', ['-c', said[clients.length] ?? 'exit 3']);
      clients.push(client);
      return client;
    },
    processes: async () => [output, waiting].map((pid) => ({ service: 'gateway', pid })),
    mustRun: async () => {
      const client = clients.at(-1)?.pid;
      const both = [output, waiting].map(
        (pid) => `* ${pid}1 * ${pid}2 users:(("docker",pid=${client},fd=3))\n* ${pid}2 * ${pid}1 users:(("node",pid=${pid},fd=3))`,
      );
      return { stdout: both.map((lines) => lines.replaceAll(/^/gm, 'u_str ESTAB 0 0 ')).join('\n') };
    },
  } as unknown as TestHost;
  const journal = new Journal();
  const follower = new Follower(host, journal, 'attach counter', 300);
  await follower.follow();
  await follower.follow();
  expect(clients.length).toBe(1);
  journal.killed.add(output);
  await follower.follow();
  expect(clients.length).toBe(2);
  await follower.follow();
  expect(clients.length).toBe(2);
  await waitFor(() => follower.hasHeard(['60']), { what: 'the last line' });
  await follower.stop('SIGKILL');
  follower.check(Array.from({ length: 60 }, (_, index) => `${index + 1}`));
  expect(journal.violations).toEqual([]);
});
