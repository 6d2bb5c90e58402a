/** The table in a real kernel: what many published ports cost, counted and not timed, and what several instances make of it. */
import { join } from 'node:path';
import { createTestHost } from '@flotilla/testkit';
import { expect, it } from 'vitest';

it('with 1,000 ports published opens and closes others without a look at the table, and puts all back after a flush', async () => {
  const host = await createTestHost();
  try {
    const { stdout } = await host.mustRun(process.execPath, [join(import.meta.dirname, 'packetFilterLooks.ts')]);
    const nothing = { looks: 0, restores: 0, foreign: 0, errors: 0 };
    expect(JSON.parse(stdout)).toEqual({
      own: nothing,
      others: nothing,
      flushed: { ...nothing, looks: 1, restores: 1 },
      elements: 1_000,
    });
  } finally {
    await host.dispose();
  }
});

it('keeps out what another instance has taken out', async () => {
  const host = await createTestHost();
  try {
    const { stdout } = await host.mustRun(process.execPath, [join(import.meta.dirname, 'removedElsewhere.ts')]);
    const whole = ['bridges', 'subnets4', 'masqueraded4', 'talking'];
    expect(JSON.parse(stdout)).toEqual({ there: whole, putBack: whole, gone: [], misfits: [] });
  } finally {
    await host.dispose();
  }
});

it('a network that the kernel refuses is refused alone: others are made, and the table is written at the next start', async () => {
  const host = await createTestHost();
  try {
    const { stdout } = await host.mustRun(process.execPath, [join(import.meta.dirname, 'refusedNetwork.ts')]);
    expect(JSON.parse(stdout)).toEqual({
      refused: ['br-overlaps', 'br-fault'],
      bridges: ['br-one', 'br-two'],
      atStart: { bridges: ['br-one', 'br-two'], reported: 2, without: ['br-overlaps', 'br-fault'] },
      errors: 0,
    });
  } finally {
    await host.dispose();
  }
});
