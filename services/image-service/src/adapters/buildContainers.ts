/** Containers of RUN steps: made, run and removed by container-service, whichever of its instances comes and goes meanwhile. */
import { setTimeout as pause } from 'node:timers/promises';
import { ContainersService } from '@flotilla/contracts/flotilla/container/v1/containers';
import { buildLabel, type ContainerCreateRequest } from '@flotilla/engine-api';
import { isNotFound, isUnavailable, System } from '@flotilla/errors';
import { type Discovery, serviceCalls } from '@flotilla/service-kit';
import { dialTicket, StdcopyDemultiplexer, type Ticket } from '@flotilla/streams';
import type { StepContainers } from '../build/runStep.ts';

const longMs = 10 * 60_000;
const retryMs = 200;
/** How long container-service may be away while a step runs. */
const patienceMs = 60_000;

export function stepContainers(discovery: Discovery): StepContainers {
  const containers = serviceCalls(ContainersService, 'container-service', discovery);
  const remove = async (container: string): Promise<void> => {
    try {
      await containers.remove({ container, force: true, removeVolumes: true, removeLink: false }, { deadlineMs: longMs, idempotent: true });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  };
  /** The step's exit code. Its end is kept, so it can be waited for again. */
  const exitCode = async (container: string, signal: AbortSignal): Promise<number> => {
    let lostAtMs: number | undefined;
    for (;;) {
      try {
        for await (const { result } of containers.wait({ container, condition: 1 }, { signal })) {
          lostAtMs = undefined;
          if (result === undefined) continue;
          if (result.error !== '') throw new System(result.error);
          return result.exitCode;
        }
        throw new System('container-service stopped waiting');
      } catch (error) {
        lostAtMs ??= performance.now();
        if (!isUnavailable(error) || signal.aborted || performance.now() - lostAtMs > patienceMs) throw error;
      }
      await pause(retryMs);
    }
  };
  return {
    remove,

    async create(config: ContainerCreateRequest, signal): Promise<{ id: string; warnings: readonly string[] }> {
      const configJson = Buffer.from(JSON.stringify(config));
      return containers.create({ name: '', platform: '', configJson }, { deadlineMs: longMs, signal });
    },

    async run(container, write, signal): Promise<number> {
      const asked = { container, logs: false, stream: true, stdin: false, stdout: true, stderr: true, detachKeys: '' };
      const attach = async (cursor?: string): Promise<Ticket> => {
        const request = { ...asked, ...(cursor !== undefined && { cursor }) };
        const { ticket } = await containers.attach(request, { deadlineMs: longMs, signal, idempotent: true });
        if (ticket === undefined) throw new System('container-service answered without a stream');
        return ticket;
      };
      const output = await dialTicket(await attach(), { signal, resume: attach, restart: () => attach() });
      const heard = (async () => {
        const frames = new StdcopyDemultiplexer();
        for await (const chunk of output as AsyncIterable<Buffer>) {
          for (const { stream, payload } of frames.push(chunk)) await write(stream, payload);
        }
      })();
      heard.catch(() => undefined);
      try {
        const askedAtNano = BigInt(Date.now()) * 1_000_000n;
        await containers.start({ container, askedAtNano }, { deadlineMs: longMs, signal, idempotent: true });
        const code = await exitCode(container, signal);
        await heard;
        return code;
      } finally {
        output.destroy();
      }
    },

    async labelled(): Promise<{ id: string; label: string }[]> {
      const { containersJson } = await containers.list(
        { all: true, limit: 0, size: false, filters: { label: { values: [buildLabel] } } },
        { idempotent: true },
      );
      const listed = JSON.parse(Buffer.from(containersJson).toString('utf8')) as { Id: string; Labels?: Record<string, string> }[];
      return listed.map(({ Id, Labels }) => ({ id: Id, label: Labels?.[buildLabel] ?? '' }));
    },
  };
}
