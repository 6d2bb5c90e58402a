import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { newNameByMaker } from './madeBy.ts';
import { Paths } from './paths.ts';
import { Reconciler, type ReconcilerOptions } from './reconcile.ts';

test('of a create that was cut off only the anonymous volumes go that it made itself', async () => {
  const root = mkdtempSync(join(tmpdir(), 'reconcile-'));
  try {
    const paths = new Paths(join(root, 'data'), join(root, 'exec'));
    mkdirSync(paths.drafts, { recursive: true });
    writeFileSync(join(paths.drafts, 'c1'), `${process.pid} 1\nothers\nc1.1 snapshot\nmade created\n`);
    const calls: unknown[] = [];
    const reconciler = new Reconciler({
      paths,
      store: { isGone: async () => true },
      neighbours: {
        snapshots: { remove: async (request: unknown) => calls.push(request) },
        volumes: { release: async (request: unknown) => calls.push(request) },
      },
      isAlone: () => false,
    } as unknown as ReconcilerOptions);
    await reconciler.retain();
    expect(calls).toEqual([
      { key: 'c1' },
      { key: 'c1.1' },
      { name: 'others', user: 'c1', removeAnonymous: false },
      { name: 'made', user: 'c1', removeAnonymous: true },
    ]);
    expect(readdirSync(paths.drafts)).toEqual([]);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('the files of a probe stay as long as the instance lives that runs it', async () => {
  const root = mkdtempSync(join(tmpdir(), 'reconcile-'));
  try {
    const paths = new Paths(join(root, 'data'), join(root, 'exec'));
    const [running, left] = [newNameByMaker('probe'), `probe-${process.pid}-1-ab`];
    for (const name of [running, left, 'probe-ab', 'an-exec', 'known']) mkdirSync(paths.execDirectory(name), { recursive: true });
    const reconciler = new Reconciler({
      paths,
      store: { fresh: async () => undefined, containers: new Map(), execs: new Map([['known', { state: 'running' }]]) },
    } as unknown as ReconcilerOptions);
    await reconciler.local();
    expect(readdirSync(paths.execs).sort()).toEqual(['known', running]);
  } finally {
    rmSync(root, { recursive: true });
  }
});
