import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostConfig } from '@flotilla/engine-api';
import { afterAll, describe, expect, it } from 'vitest';
import { buildExecProcess, buildRuntimeSpec, detectHost } from './index.ts';

const rootfs = mkdtempSync(join(tmpdir(), 'flotilla-apparmor-root-'));
afterAll(() => rmSync(rootfs, { recursive: true, force: true }));

/** The profiles of a container's first process and of a privileged exec in it, on a kernel with AppArmor or without. */
function profiles(hostConfig: HostConfig, apparmor: boolean): (string | undefined)[] {
  const host = { ...detectHost(), apparmor };
  const common = { config: { Cmd: ['true'] }, hostConfig, rootfs, host };
  const { process } = buildRuntimeSpec({ ...common, id: 'x', mounts: [], cgroupsPath: '/x' });
  if (process === undefined) throw new Error('a spec without a process');
  const exec = buildExecProcess({ ...common, exec: { Cmd: ['true'], Privileged: true }, container: process });
  return [process.apparmorProfile, exec.apparmorProfile];
}

describe('the AppArmor profile', () => {
  it.each([
    ['by default', {}, 'docker-default'],
    ['named', { SecurityOpt: ['apparmor=harbour'] }, 'harbour'],
    ['named with the separator of old', { SecurityOpt: ['apparmor:harbour'] }, 'harbour'],
    ['unconfined', { SecurityOpt: ['apparmor=unconfined'] }, 'unconfined'],
    ['privileged', { Privileged: true }, 'unconfined'],
    ['privileged, whatever is named', { Privileged: true, SecurityOpt: ['apparmor=harbour'] }, 'unconfined'],
  ])('%s', (_, hostConfig, profile) => {
    expect(profiles(hostConfig, true)).toEqual([profile, profile]);
    expect(profiles(hostConfig, false)).toEqual([undefined, undefined]);
  });
});
