import { describe, expect, test } from 'vitest';
import { execFailure, startFailure } from './startFailure.ts';

const crun = (text: string) => `2026-11-24T11:05:58.000000Z: ${text}`;
const runc = (text: string) => `time="2026-11-24T11:05:58Z" level=error msg="${text.replaceAll('"', '\\"')}"`;

describe('a start that failed', () => {
  test.each([
    [
      'crun',
      crun('executable file `nope` not found in $PATH: No such file or directory'),
      'nope',
      127,
      'exec: "nope": executable file not found in $PATH',
    ],
    [
      'crun, a path',
      crun('executable file `/no/such` not found: No such file or directory'),
      '/no/such',
      127,
      'exec: "/no/such": stat /no/such: no such file or directory',
    ],
    ['crun, not executable', crun('open executable: Permission denied'), '/etc/passwd', 126, 'exec: "/etc/passwd": permission denied'],
    [
      'runc',
      runc('runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH'),
      'nope',
      127,
      'exec: "nope": executable file not found in $PATH',
    ],
    [
      'runc, not executable',
      runc('runc create failed: unable to start container process: exec: "/etc/passwd": permission denied'),
      '/etc/passwd',
      126,
      'exec: "/etc/passwd": permission denied',
    ],
    [
      'a directory to run in that is not there',
      crun('chdir `/not/there`: No such file or directory'),
      'sh',
      127,
      'chdir to cwd ("/not/there") set in config.json failed: no such file or directory',
    ],
    [
      'anything else',
      crun('mount `proc` to `/proc`: Operation not permitted'),
      'sh',
      128,
      'mount `proc` to `/proc`: Operation not permitted',
    ],
    [
      'a mount that is not there',
      crun('cannot stat `/gone`: No such file or directory'),
      'sh',
      128,
      'cannot stat `/gone`: No such file or directory',
    ],
  ])('%s', (_name, output, program, exitCode, reason) => {
    const failure = startFailure(output, program);
    expect(failure.exitCode).toBe(exitCode);
    expect(failure.error.message).toBe(
      `failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: ${reason}: unknown`,
    );
    expect(failure.error.kind).toBe(exitCode === 128 ? 'System' : 'InvalidParameter');
  });

  test('of an exec has dockerd’s other sentence', () => {
    const failure = execFailure(crun('executable file `nope` not found in $PATH: No such file or directory'), 'nope');
    expect(failure.error.message).toBe(
      'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown',
    );
    expect(failure.exitCode).toBe(127);
  });
});
