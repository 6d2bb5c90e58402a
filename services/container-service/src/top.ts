/** `docker top`: the host's ps, its rows cut to the processes of one container. */
import { execFile } from 'node:child_process';
import { Conflict, InvalidParameter, System } from '@flotilla/errors';
import { assertRunning, type ContainerRecord, type Run } from './container.ts';

export interface Top {
  readonly titles: string[];
  readonly processes: string[][];
}

const defaultArguments = '-ef';

/** @throws Conflict when it does not run; InvalidParameter for arguments without a PID column. @see Engine API v1.50 ContainerTop */
export async function topOf(container: ContainerRecord, psArguments: string, processesOf: (run: Run) => number[]): Promise<Top> {
  if (container.state.status === 'restarting') {
    throw new Conflict(`Container ${container.id} is restarting, wait until the container is running`);
  }
  const run = assertRunning(container);
  if (psArguments.includes('\0')) throw new InvalidParameter('ps: invalid argument');
  refuseFalsePids(psArguments);
  const words = (psArguments || defaultArguments).split(/\s+/).filter((word) => word !== '');
  const pids = processesOf(run);
  return parsePs(await psOf(words, pids), pids);
}

/** Another column must not be called PID: rows are found by that one. */
function refuseFalsePids(psArguments: string): void {
  for (const [, column = '', title = ''] of ` ${psArguments}`.matchAll(/\s+(\S*)=\s*(PID\S*)/g)) {
    if (column !== 'pid') throw new InvalidParameter(`specifying "${column}=${title}" is not allowed`);
  }
}

/** ps shows by itself only what is on its own terminal, so it is told which processes; some arguments do not go with that, and select their own. */
async function psOf(words: readonly string[], pids: readonly number[]): Promise<string> {
  try {
    return await ps([...words, `-q${pids.join(',')}`]);
  } catch {
    return await ps(words);
  }
}

function ps(words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile('ps', words, { maxBuffer: 64 * 1024 * 1024, env: { PATH: process.env.PATH, LC_ALL: 'C' } }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new System(`ps: ${stderr.split('\n', 1)[0] || `exit status ${error.code}`}`, { cause: error }));
    });
  });
}

/** Keeps the header, and the rows whose PID is one of `pids`. @throws InvalidParameter without a PID column. */
export function parsePs(output: string, pids: readonly number[]): Top {
  const [header = '', ...lines] = output.split('\n').filter((line) => line.trim() !== '');
  const titles = header.trim().split(/\s+/);
  const pidColumn = titles.indexOf('PID');
  if (pidColumn < 0) throw new InvalidParameter(`Couldn't find PID field in ps output`);
  const wanted = new Set(pids);
  const processes: string[][] = [];
  for (const line of lines) {
    const words = line.trim().split(/\s+/);
    // A command's own spaces belong to the last column.
    const fields = [...words.slice(0, titles.length - 1), words.slice(titles.length - 1).join(' ')];
    if (wanted.has(Number(words[pidColumn]))) processes.push(fields);
  }
  return { titles, processes };
}
