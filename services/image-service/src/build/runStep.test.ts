import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Unavailable } from '@flotilla/errors';
import { expect, it } from 'vitest';
import type { ContentStore } from '../contentStore.ts';
import type { StageOutput } from './output.ts';
import { StepRunner } from './runStep.ts';
import type { StepLayers } from './stepLayers.ts';

it('a step whose container cannot be removed gives its layer back', async () => {
  const root = mkdtempSync(join(tmpdir(), 'flotilla-step-'));
  try {
    mkdirSync(join(root, 'merged'));
    const content = { snapshotPaths: () => ({ root, mergedDir: join(root, 'merged'), upperDir: root }) } as unknown as ContentStore;
    let released = 0;
    const layer = { record: undefined, release: async () => void released++ };
    const runner = new StepRunner({
      content,
      layers: { take: async () => layer } as unknown as StepLayers,
      containers: {
        create: async () => ({ id: 'c', warnings: [] }),
        run: async () => 0,
        remove: async () => {
          throw new Unavailable('container-service is away');
        },
        labelled: async () => [],
      },
    });
    const output = { running: () => undefined, command: () => ({ end: () => undefined }) } as unknown as StageOutput;
    const request = { command: ['true'], config: { Image: 'i' }, hostConfig: {}, mounts: [], output, remove: true, forceRemove: true };
    const ran = runner.run({ ...request, signal: new AbortController().signal }, () => undefined);
    await expect(ran).rejects.toThrow('container-service is away');
    expect(released).toBe(1);
  } finally {
    rmSync(root, { recursive: true });
  }
});
