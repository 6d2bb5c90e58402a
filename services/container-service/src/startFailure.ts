/**
 * What a client is told when a container or an exec cannot be started: dockerd's sentence around the OCI runtime's, and the exit code that
 * shells give for the same mistake. The CLI reads these words: `executable file not found` becomes 127, `permission denied` 126.
 */
import { type FlotillaError, InvalidParameter, System } from '@flotilla/errors';

export interface StartFailure {
  readonly error: FlotillaError;
  readonly exitCode: number;
}

const notFound = 127;
const cannotExecute = 126;
const unknown = 128;

/** The reason alone, in runc's words, whichever runtime it was. */
export function runtimeReason(output: string): string {
  const lines = output
    .split('\n')
    .map(messageOf)
    .filter((line) => line !== '');
  const line =
    lines.find((each) => /executable file|permission denied|no such file|not a directory/i.test(each)) ?? lines.at(-1) ?? output.trim();
  const crunNotFound = /executable file `(.*)` not found(?: in \$PATH)?/.exec(line);
  if (crunNotFound !== null) {
    const name = crunNotFound[1] ?? '';
    return name.includes('/')
      ? `exec: ${JSON.stringify(name)}: stat ${name}: no such file or directory`
      : `exec: ${JSON.stringify(name)}: executable file not found in $PATH`;
  }
  const crunOpen = /open executable: (.*)$/i.exec(line);
  // crun says EPERM of what is no regular file, a directory first of all; runc and the kernel say EACCES.
  if (crunOpen !== null) return `exec: ${(crunOpen[1] ?? '').toLowerCase().replace('operation not permitted', 'permission denied')}`;
  const crunDirectory = /^chdir `(.*)`: (.*)$/.exec(line);
  if (crunDirectory !== null) {
    const [, directory = '', reason = ''] = crunDirectory;
    return `chdir to cwd (${JSON.stringify(directory)}) set in config.json failed: ${reason.toLowerCase()}`;
  }
  const runcReason = /(?:unable to start container process|exec failed): (?:error during container init: )?(.*)$/.exec(line);
  return (runcReason?.[1] ?? line).replace(/: OCI runtime attempted to invoke a command that was not found$/, '');
}

/** The text of one line of a runtime's output: runc writes logfmt, crun a time and a text. */
function messageOf(line: string): string {
  const logfmt = /msg="((?:[^"\\]|\\.)*)"/.exec(line);
  if (logfmt !== null) return (logfmt[1] ?? '').replace(/\\(["\\])/g, '$1');
  return line.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z?:?\s*/, '').trim();
}

/** How the sentence is wrapped, and what a reason means. */
function classify(reason: string, program: string, sentence: (text: string) => string): StartFailure {
  const lower = reason.toLowerCase();
  // Only of the program itself, or where it is to run: a device or a mount that is not there is no 127.
  const ofProgram = lower.startsWith('exec:') || lower.startsWith('chdir to cwd') || reason.includes(program);
  if (ofProgram && (lower.includes('executable file not found') || lower.includes('no such file or directory'))) {
    return { error: new InvalidParameter(sentence(reason)), exitCode: notFound };
  }
  if (ofProgram && (lower.includes('permission denied') || lower.includes('is a directory'))) {
    const named = reason.includes(JSON.stringify(program)) ? reason : `exec: ${JSON.stringify(program)}: permission denied`;
    return { error: new InvalidParameter(sentence(named)), exitCode: cannotExecute };
  }
  if (lower.includes('not a directory')) {
    const hint =
      'Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type';
    return { error: new InvalidParameter(`${sentence(reason)}: ${hint}`), exitCode: notFound };
  }
  return { error: new System(sentence(reason)), exitCode: unknown };
}

/**
 * Why a container did not start.
 *
 * @param output - all that the runtime has written.
 * @param program - the first word of the command.
 */
export function startFailure(output: string, program: string): StartFailure {
  const prefix =
    'failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init';
  return classify(runtimeReason(output), program, (text) => `${prefix}: ${text}: unknown`);
}

/** Why an exec did not start. */
export function execFailure(output: string, program: string): StartFailure {
  const prefix = 'OCI runtime exec failed: exec failed: unable to start container process';
  return classify(runtimeReason(output), program, (text) => `${prefix}: ${text}: unknown`);
}
