import { defineConfig } from 'vitest/config';
import { LongestFirst } from './test/longestFirst.ts';

/** What measures times, or what else runs would be counted in, has the machine to itself. */
const timed = ['test/e2e/chaos.test.ts', 'test/e2e/fleet.test.ts', 'test/e2e/stats.test.ts', 'services/registry-proxy/test/memory.test.ts'];

/**
 * Four runners: unit beside the code, integration against real servers, e2e with the docker CLI on a whole stack, and what is to run alone. Two files of real
 * servers at a time: each has namespaces and data of its own, and most of its time it waits.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['packages/*/src/**/*.test.ts', 'services/*/src/**/*.test.ts', 'deploy/src/**/*.test.ts', 'bench/src/**/*.test.ts'],
          testTimeout: 20_000,
          // A process for each of 150 small files costs more than what they test; none of them changes what another sees.
          isolate: false,
          maxWorkers: '100%',
        },
      },
      {
        test: {
          name: 'integration',
          include: ['packages/*/test/**/*.test.ts', 'services/*/test/**/*.test.ts', 'deploy/test/**/*.test.ts'],
          exclude: timed,
          testTimeout: 60_000,
          hookTimeout: 60_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: timed,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
        },
      },
      { test: { name: 'timed', include: timed, testTimeout: 120_000, hookTimeout: 120_000, fileParallelism: false } },
    ],
  },
});
