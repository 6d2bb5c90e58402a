import { runWithRequest } from '@flotilla/service-kit';
import { expect, test } from 'vitest';
import type { Backends } from './backends.ts';
import { ContainerUsage } from './containerUsage.ts';

type Options = { readonly signal: AbortSignal };

const sample = {
  memory_stats: { usage: 5 },
  cpu_stats: { cpu_usage: { total_usage: 2e9 } },
  blkio_stats: { io_service_bytes_recursive: null },
};

test('a look ends in its time however many containers do not answer, and one is for all who ask meanwhile in one name', async () => {
  let lists = 0;
  const asked: string[] = [];
  const containers = {
    list: async () => {
      lists++;
      const running = Array.from({ length: 60 }, (_, at) => ({ Id: `c${at}`, Names: [`/n${at}`], Image: 'busybox' }));
      return { containersJson: Buffer.from(JSON.stringify(running)) };
    },
    async *stats({ container }: { container: string }, { signal }: Options) {
      asked.push(container);
      if (container !== 'c0') await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      yield { statsJson: Buffer.from(JSON.stringify(sample)) };
    },
  };
  const usage = new ContainerUsage(containers as unknown as Backends['containers'], { withinMs: 100 });
  const alice = { kind: 'user', name: 'alice', uid: 1000 } as const;
  const texts = await Promise.all([usage.text(), usage.text(), runWithRequest({ requestId: '1', identity: alice }, () => usage.text())]);
  expect(lists).toBe(2);
  // In each look the first answers, and the others that are asked at once take all the time there is.
  expect(asked).toHaveLength(2 * 17);
  expect(texts[0]).toBe(texts[1]);
  expect(texts[2]).toContain('flotilla_container_cpu_seconds_total{id="c0",name="n0",image="busybox"} 2\n');
  expect(texts[0]).not.toContain('id="c1"');
  await usage.text();
  expect(lists).toBe(3);
});
