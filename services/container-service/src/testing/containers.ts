/** Container records for unit tests. */
import { type ContainerRecord, initialState, type Run, type State } from '../container.ts';

let made = 0;

/** A container that was created and never started, but for what `changes` says. */
export function containerRecord(changes: Partial<ContainerRecord> = {}): ContainerRecord {
  made++;
  const id = changes.id ?? made.toString(16).padStart(64, '0');
  return {
    id,
    name: `made_${made}`,
    created: new Date(Date.UTC(2026, 0, 1, 0, 0, made)).toISOString(),
    image: { id: `sha256:${'ab'.repeat(32)}`, reference: 'busybox' },
    platform: 'linux',
    config: {},
    hostConfig: { NetworkMode: 'bridge' },
    endpoints: {},
    path: 'sh',
    args: [],
    state: initialState,
    snapshot: { lowerDirs: ['/lower'], upperDir: '/upper', workDir: '/work', mergedDir: '/merged', baseDir: '/base' },
    mounts: [],
    logPath: '/log',
    restartCount: 0,
    stoppedByUser: false,
    ...changes,
  };
}

export function runningState(changes: Partial<State> = {}): State {
  return { ...initialState, status: 'running', startedAt: '2026-01-01T00:00:00Z', run: run(), ...changes };
}

export function run(changes: Partial<Run> = {}): Run {
  return {
    id: 'run-1',
    bootId: 'boot',
    pid: 100,
    pidStart: '1',
    monitorPid: 99,
    monitorStart: '1',
    runtime: 'crun',
    cgroup: '/flotilla/x',
    logOffset: 0,
    netns: '',
    files: { hostname: '', hosts: '', resolvConf: '' },
    ...changes,
  };
}

export function exitedState(exitCode: number, finishedAt = '2026-01-01T00:01:00Z'): State {
  return { ...initialState, status: 'exited', exitCode, startedAt: '2026-01-01T00:00:00Z', finishedAt };
}
