/** The docker CLI on this engine and on the dockerd that distributions ship: the same commands, the same output and exit codes, whatever group they are of. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestHost } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CommandLine, commandLines } from './commands/lines.ts';
import { startNetworkedDockerd } from './peer.ts';
import { useStack } from './stack.ts';

const stack = useStack();
let peer: TestHost;

beforeAll(async () => {
  peer = await startNetworkedDockerd(stack.busyboxImage);
  await peer.mustDocker('pull', '-q', stack.busybox);
  for (const host of [stack.host, peer]) mkdirSync(join(host.directory, 'work'));
}, 180_000);
afterAll(() => peer?.dispose(), 60_000);

interface Printed {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Ids, sizes, times and directories are each engine's own. */
function normalised(text: string): string {
  return (
    text
      .replace(/\b[0-9a-f]{64}\b/g, 'ID')
      .replace(/\bfile:[0-9a-f]+/g, 'file:ID')
      .replace(/\b[0-9a-f]{12}\b/g, 'ID')
      .replace(/\/tmp\/flotilla-test-[^/\s"]+/g, 'ROOT')
      .replace(/\b(\d+|an?|About an?|Less than a) (second|minute|hour|day|month|year)s?( ago)?/g, 'AGE')
      .replace(/\b\d+(\.\d+)?(kB|MB|GB|B)\b/g, 'SIZE')
      .replace(/[ \t]+/g, ' ')
      // What the client logs when it is refused before it has sent all: whether it comes so far is a race in it.
      .replace(/^time=.* level=error msg="Can't (add file|close tar writer).*\n/gm, '')
  );
}

async function printed(host: TestHost, { line }: CommandLine): Promise<Printed> {
  const env = { ...host.dockerEnvironment, IMAGE: stack.busybox, WORK: join(host.directory, 'work') };
  const { code, stdout, stderr } = await host.run('sh', ['-c', line], { env, timeoutMs: 90_000 });
  return { code, stdout: normalised(stdout), stderr: normalised(stderr) };
}

describe('a session of the docker CLI', () => {
  it('goes as with dockerd', { timeout: 600_000 }, async () => {
    const different: unknown[] = [];
    for (const command of commandLines) {
      const [ours, theirs] = await Promise.all([printed(stack.host, command), printed(peer, command)]);
      const expected = command.why === undefined ? theirs : { ...ours, code: command.code ?? theirs.code };
      if (JSON.stringify(ours) !== JSON.stringify(expected)) different.push({ line: command.line, ours, expected });
      // A reason that is one no more would hide the next difference.
      if (command.why !== undefined && JSON.stringify(ours) === JSON.stringify(theirs)) different.push({ line: command.line, same: ours });
    }
    expect(different).toEqual([]);
  });
});
