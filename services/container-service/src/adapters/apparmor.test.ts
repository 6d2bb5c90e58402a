/** The profile and its loading, with a recorded list of profiles and a parser that writes down what it is told: this is no test of a kernel. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { System } from '@flotilla/errors';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Apparmor } from './apparmor.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flotilla-apparmor-test-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const file = (name: string): string => join(root, name);

function apparmor(loaded: string, parser: string): Apparmor {
  writeFileSync(file('profiles'), loaded);
  writeFileSync(file('parser'), `#!/bin/sh\n${parser}\n`, { mode: 0o755 });
  return new Apparmor({ loaded: file('profiles'), parser: file('parser') });
}

describe('the default profile', () => {
  it('is loaded when the kernel has it not, once', async () => {
    const subject = apparmor(
      'lsb_release (enforce)\ndocker-default-extra (enforce)\n',
      `for path; do :; done; cp "$path" ${file('given')}; echo "docker-default (enforce)" >> ${file('profiles')}; echo "$*" >> ${file('calls')}`,
    );
    await subject.ensureDefaultProfile();
    expect(readFileSync(file('given'), 'utf8')).toMatch(/^profile docker-default flags=/m);
    await subject.ensureDefaultProfile();
    expect(readFileSync(file('calls'), 'utf8').trim().split('\n')).toEqual([
      expect.stringMatching(/^--skip-cache --replace \/.*\/docker-default$/),
    ]);
  });

  it('is left alone when it is there', async () => {
    await apparmor('docker-default (enforce)\n', 'exit 1').ensureDefaultProfile();
  });

  it('that cannot be loaded is no reason to run without', async () => {
    const failure: unknown = await apparmor('', 'echo no permission >&2; exit 1')
      .ensureDefaultProfile()
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(System);
    expect(String(failure)).toMatch(/AppArmor enabled on system but the docker-default profile could not be loaded: .*no permission/s);
  });

  it('is understood by the real parser', async () => {
    await apparmor('', `for path; do :; done; cp "$path" ${file('given')}`).ensureDefaultProfile();
    execFileSync('/sbin/apparmor_parser', ['--skip-kernel-load', '--skip-cache', file('given')], { stdio: 'pipe' });
  });
});
