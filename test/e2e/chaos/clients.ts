/**
 * Docker clients that work without a pause and check every answer: what is acknowledged must be so, what fails must say why, and nothing may take for ever.
 * Each has names of its own, so that it alone knows what must be there.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { CommandResult, TestHost } from '@flotilla/testkit';
import type { Journal } from './journal.ts';

/** Longer than the longest deadline between services; then a call is not bounded any more. */
const boundMs = 45_000;
/** Else the clients themselves are what the machine is busy with. */
const betweenRoundsMs = 150;
/** What Go's client says of a connection that was cut. */
const cutConnection = /EOF|connection reset|broken pipe|Cannot connect to the Docker daemon|error during connect/;
/** What only a fault of ours can say. */
const noError = /undefined|TypeError|RangeError|\[object |panic|at file:|13 INTERNAL|2 UNKNOWN/;

export interface Work {
  readonly host: TestHost;
  readonly journal: Journal;
  /** The image that everything runs. */
  readonly image: string;
  /** An image that is pulled and removed over and over. */
  readonly pulled: string;
  /** A running container that nobody may stop. */
  readonly keeper: string;
  readonly signal: AbortSignal;
}

type Client = (work: Work, round: number) => Promise<void>;

/** One docker command. Its failure is noted, and undefined. */
async function call(
  work: Work,
  what: string,
  args: readonly string[],
  isSuccess: (code: number, stderr: string) => boolean = (code) => code === 0,
): Promise<CommandResult | undefined> {
  const { host, journal } = work;
  const beganMs = performance.now();
  let result: CommandResult;
  try {
    result = await host.dockerWith({ timeoutMs: boundMs, env: { DOCKER_BUILDKIT: '0' } }, ...args);
  } catch (error) {
    journal.call(what, beganMs, 'no answer');
    journal.violated(`${what}: no end within ${boundMs} ms: ${String(error).slice(0, 200)}`);
    return undefined;
  }
  if (isSuccess(result.code, result.stderr)) {
    journal.call(what, beganMs);
    return result;
  }
  failed(work, what, beganMs, result);
  return undefined;
}

/** Notes a failure. It must say what it is, and a cut connection needs a gateway that died. */
function failed(
  { journal }: Work,
  what: string,
  beganMs: number,
  { code, stdout, stderr }: Pick<CommandResult, 'stdout' | 'stderr'> & { code: number | null },
): void {
  const message = stderr.trim() || stdout.trim();
  journal.call(what, beganMs, message);
  if (code === 0) journal.violated(`${what}: exit 0, and no success: ${message.slice(0, 300)}`);
  if (message === '' || noError.test(message)) journal.violated(`${what}: exit ${code}, and no clear error: ${message.slice(0, 300)}`);
  if (cutConnection.test(message) && !journal.lostConnectionsSince(beganMs))
    journal.violated(`${what}: cut though no gateway died: ${message.slice(0, 300)}`);
}

/** Removes whatever a failed call may have made, until that is acknowledged. */
async function removed(work: Work, what: string, args: readonly string[]): Promise<void> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const { code, stderr } = await work.host
      .dockerWith({ timeoutMs: boundMs }, ...args)
      .catch((error: unknown) => ({ code: 1, stderr: String(error) }));
    if (code === 0 || /No such|not found|is already in progress/i.test(stderr)) return;
    if (performance.now() > deadline) {
      work.journal.violated(`${what}: cannot be removed: ${stderr.slice(0, 300)}`);
      return;
    }
    await pause(100);
  }
}

function check(work: Work, what: string, found: string, wanted: string, beganMs: number): void {
  // Bytes that were under way through a killed gateway are gone with it, and its client is told or not, by Go's mood.
  if (found !== wanted && !work.journal.lostConnectionsSince(beganMs))
    work.journal.violated(`${what}: ${JSON.stringify(found.slice(0, 200))} instead of ${JSON.stringify(wanted)}`);
}

const run: Client = async (work, round) => {
  const name = `run-${round}`;
  const code = 1 + (round % 100);
  const beganMs = performance.now();
  const done = await call(
    work,
    'run',
    ['run', '--rm', '--name', name, work.image, 'sh', '-c', `echo line ${round}; exit ${code}`],
    // Its connections go to any gateway: with that of its output alone cut the CLI ends with 1.
    (exit, stderr) => exit !== 125 && exit !== 126 && exit !== 127 && !cutConnection.test(stderr),
  );
  if (done === undefined) return removed(work, name, ['rm', '-f', name]);
  if (done.code !== code) work.journal.violated(`run: exit code ${done.code} instead of ${code}: ${done.stderr.slice(0, 200)}`);
  check(work, 'run', done.stdout, `line ${round}\n`, beganMs);
};

const exec: Client = async (work, round) => {
  const code = 1 + (round % 100);
  const done = await call(work, 'exec', ['exec', work.keeper, 'sh', '-c', `echo line ${round}; exit ${code}`], (exit) => exit === code);
  // Its output is not kept anywhere: who was cut off from it is told, by these words, or by an error when it was a gateway that died.
  if (done === undefined || done.stderr.includes('flotilla: container-service was restarted')) return;
  if (done.stdout !== `line ${round}\n`)
    work.journal.violated(`exec: ${JSON.stringify(done.stdout.slice(0, 200))} instead of line ${round}`);
};

const copy: Client = async (work, round) => {
  const [from, back] = [`${work.host.filesDirectory}/copy-in`, `${work.host.filesDirectory}/copy-out`];
  await work.host.sh(`rm -rf ${back}; { echo round ${round}; head -c 300000 /dev/urandom; } > ${from}`);
  if ((await call(work, 'cp in', ['cp', from, `${work.keeper}:/copied`])) === undefined) return;
  if ((await call(work, 'cp out', ['cp', `${work.keeper}:/copied`, back])) === undefined) return;
  const same = (await work.host.run('cmp', [from, back])).code === 0;
  if (!same) work.journal.violated('cp: what came back is not what was sent');
};

const pull: Client = async (work) => {
  await removed(work, 'pulled image', ['rmi', '-f', work.pulled]);
  if ((await call(work, 'pull', ['pull', '-q', work.pulled])) === undefined) return;
  await call(work, 'image inspect', ['image', 'inspect', '-f', '{{.Id}}', work.pulled]);
};

const build: Client = async (work, round) => {
  const context = `${work.host.filesDirectory}/build`;
  const tag = `built:${round}`;
  await work.host.sh(
    `mkdir -p ${context}; printf 'FROM ${work.image}\\nCOPY Dockerfile /d\\nRUN echo made ${round} > /made\\n' > ${context}/Dockerfile`,
  );
  const beganMs = performance.now();
  if ((await call(work, 'build', ['build', '-q', '-t', tag, context])) !== undefined) {
    const shown = await call(work, 'run', ['run', '--rm', tag, 'cat', '/made']);
    if (shown !== undefined) check(work, 'build', shown.stdout, `made ${round}\n`, beganMs);
  }
  await removed(work, tag, ['rmi', '-f', tag]);
};

const network: Client = async (work, round) => {
  const [name, volume, container, asking] = [`net-${round}`, `vol-${round}`, `peer-${round}`, `asking-${round}`];
  const beganMs = performance.now();
  const made =
    (await call(work, 'network create', ['network', 'create', name])) !== undefined &&
    (await call(work, 'volume create', ['volume', 'create', volume])) !== undefined;
  if (made) {
    const wrote = await call(work, 'run', [
      'run',
      '-d',
      '--name',
      container,
      '--network',
      name,
      '-v',
      `${volume}:/v`,
      work.image,
      'sh',
      '-c',
      `echo kept ${round} > /v/f; sleep 1000`,
    ]);
    if (wrote !== undefined) {
      const asked = await call(work, 'run', [
        'run',
        '--rm',
        '--name',
        asking,
        '--network',
        name,
        '-v',
        `${volume}:/v`,
        work.image,
        'sh',
        '-c',
        `ping -c 1 -W 5 ${container} > /dev/null && cat /v/f`,
      ]);
      if (asked !== undefined) check(work, 'network', asked.stdout, `kept ${round}\n`, beganMs);
    }
  }
  // Who was cut off from the answer to its creation does not know that it is there, and holds the volume.
  await removed(work, asking, ['rm', '-f', asking]);
  await removed(work, container, ['rm', '-f', container]);
  await removed(work, name, ['network', 'rm', name]);
  await removed(work, volume, ['volume', 'rm', volume]);
};

/** What was acknowledged is so, whoever is asked next. */
const change: Client = async (work, round) => {
  const [first, second] = [`first-${round}`, `second-${round}`];
  const asked = async (what: string, args: string[], wanted: string): Promise<boolean> => {
    const beganMs = performance.now();
    const found = await call(work, what, args);
    if (found !== undefined) check(work, what, found.stdout.trim(), wanted, beganMs);
    return found !== undefined;
  };
  const steps: (() => Promise<boolean>)[] = [
    async () => (await call(work, 'create', ['create', '--name', first, work.image, 'sleep', '1000'])) !== undefined,
    () => asked('inspect', ['inspect', '-f', '{{.State.Status}}', first], 'created'),
    async () => (await call(work, 'rename', ['rename', first, second])) !== undefined,
    async () => (await call(work, 'start', ['start', second])) !== undefined,
    () => asked('ps', ['ps', '--filter', `name=${second}`, '--format', '{{.State}}'], 'running'),
    async () => (await call(work, 'stop', ['stop', '-t', '0', second])) !== undefined,
    () => asked('inspect', ['inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', second], 'exited 137'),
    async () => (await call(work, 'rm', ['rm', second])) !== undefined,
    () => asked('ps', ['ps', '-aq', '--filter', `name=${second}`], ''),
  ];
  for (const step of steps) if (!(await step())) break;
  await removed(work, first, ['rm', '-f', first]);
  await removed(work, second, ['rm', '-f', second]);
};

/** A session with standard input: each line comes back, or its client is told that it does not. */
const session: Client = async (work, round) => {
  const name = `session-${round}`;
  const lines = Array.from({ length: 20 }, (_, index) => `line ${round}.${index}\n`);
  const beganMs = performance.now();
  const child = work.host.dockerSpawn('run', '-i', '--rm', '--name', name, work.image, 'cat');
  const heard = { output: '', errors: '' };
  child.stdout?.on('data', (chunk: Buffer) => {
    heard.output += chunk.toString();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    heard.errors += chunk.toString();
  });
  child.stdin?.on('error', () => undefined);
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const isOver = ended.then(() => true);
  for (const line of lines) {
    child.stdin?.write(line);
    if (await Promise.race([isOver, new Promise<false>((resolve) => setTimeout(resolve, 50, false))])) break;
  }
  child.stdin?.end();
  const timer = setTimeout(() => {
    work.journal.violated(`session: no end within ${boundMs} ms`);
    child.kill('SIGKILL');
  }, boundMs);
  const code = await ended;
  clearTimeout(timer);
  if (code !== 0) failed(work, 'session', beganMs, { code, stdout: '', stderr: heard.errors });
  else if (heard.errors.includes('flotilla: ')) work.journal.call('session', beganMs, heard.errors.trim());
  else {
    work.journal.call('session', beganMs);
    return check(work, 'session', heard.output, lines.join(''), beganMs);
  }
  return removed(work, name, ['rm', '-f', name]);
};

const clients: readonly Client[] = [run, exec, copy, pull, build, network, change, session];

/** Works with every client until the signal; resolves when the last has ended what it was doing. */
export async function workAll(work: Work): Promise<void> {
  await Promise.all(
    clients.map(async (client) => {
      for (let round = 0; !work.signal.aborted; round++) {
        await client(work, round);
        await pause(betweenRoundsMs);
      }
    }),
  );
}
