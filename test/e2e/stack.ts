/**
 * The running stack of one e2e file: a test host, a real docker-registry on its loopback with images made from busybox, the five
 * services. After the file's last test, everything made is removed by the CLI and the host is searched for what was left behind.
 */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  assertNoLeaks,
  busyboxImage,
  connectOutside,
  createTestHost,
  pushImage,
  type StackOptions,
  type SystemSnapshot,
  snapshotSystem,
  startRegistry,
  type TestHost,
  type TestImage,
  type TestIndex,
  type TestRegistry,
} from '@flotilla/testkit';
import { afterAll, beforeAll, expect } from 'vitest';

const repositoryRoot = join(import.meta.dirname, '../..');

/** The files run against one process of five services: what is about replicas has none. */
export const isCompact = process.env.FLOTILLA_TEST_COMPACT === '1';

export interface E2eOptions {
  /** A second namespace on a wire, to reach published ports from. */
  readonly outside?: boolean;
  readonly stack?: StackOptions;
  /** Leaks that a file's subject explains. */
  readonly ignoreLeaks?: readonly RegExp[];
}

/** Filled in before the first test of the file runs. */
export class E2eStack {
  private running:
    | { host: TestHost; registry: TestRegistry; busybox: TestImage; outside?: { host: TestHost; address: string; hostAddress: string } }
    | undefined;
  private before: SystemSnapshot | undefined;
  private readonly options: E2eOptions;

  constructor(options: E2eOptions) {
    this.options = options;
  }

  get host(): TestHost {
    return this.started.host;
  }

  get registry(): TestRegistry {
    return this.started.registry;
  }

  /** What was pushed as `busybox:latest`. */
  get busyboxImage(): TestImage {
    return this.started.busybox;
  }

  /** The reference of busybox in the registry; pulled already. */
  get busybox(): string {
    return `${this.registry.address}/busybox:latest`;
  }

  get outside(): { host: TestHost; address: string; hostAddress: string } {
    if (this.started.outside === undefined) throw new Error('this file asked for no outside');
    return this.started.outside;
  }

  private get started(): NonNullable<typeof this.running> {
    if (this.running === undefined) throw new Error('the stack is not started yet');
    return this.running;
  }

  /** Puts an image into the registry; gives its reference by tag. */
  async push(content: TestImage | TestIndex, repository: string, tag = 'latest'): Promise<string> {
    await pushImage(content, { address: this.registry.address, repository, tag }, this.host);
    return `${this.registry.address}/${repository}:${tag}`;
  }

  async start(): Promise<void> {
    const host = await createTestHost();
    try {
      const outside = this.options.outside ? await connectOutside(host) : undefined;
      const registry = await startRegistry({ place: host, port: 5000 });
      host.onDispose(() => registry.stop());
      const busybox = await busyboxImage();
      this.running = {
        host,
        registry,
        busybox,
        ...(outside && { outside: { host: outside.outside, address: outside.outsideAddress, hostAddress: outside.address } }),
      };
      await this.push(busybox, 'busybox');
      await host.startStack(this.options.stack ?? {});
      // The image and the pools that a first run fills are there before and after; what else is new at the end was left behind.
      await host.mustDocker('run', '--rm', this.busybox, 'true');
      this.before = await snapshotSystem(host);
    } catch (error) {
      if (this.running !== undefined) this.keepLogs();
      this.running = undefined;
      await host.dispose();
      throw error;
    }
  }

  /** Removes all that the tests made, then looks for what is still there. */
  async finish(): Promise<void> {
    if (this.running === undefined) return;
    const { host } = this.running;
    try {
      if (this.before !== undefined) {
        await this.removeEverything();
        await assertNoLeaks(host, this.before, {
          timeoutMs: 15_000,
          ...(this.options.ignoreLeaks && { ignore: this.options.ignoreLeaks }),
        });
      }
    } finally {
      this.keepLogs();
      await host.flotilla('down').catch(() => {});
      await host.dispose();
    }
  }

  /** Containers, their volumes, networks, volumes, and every image but busybox. */
  async removeEverything(): Promise<void> {
    const { host } = this;
    const remove = async (list: string[], removal: string[]): Promise<void> => {
      const ids = (await host.mustDocker(...list)).split('\n').filter(Boolean);
      if (ids.length > 0) await host.mustDocker(...removal, ...ids);
    };
    await remove(['ps', '-aq'], ['rm', '-fv']);
    await remove(['volume', 'ls', '-q'], ['volume', 'rm']);
    await remove(['network', 'ls', '-q', '--filter', 'type=custom'], ['network', 'rm']);
    const images = (await host.mustDocker('image', 'ls', '--no-trunc', '--format', '{{.ID}}'))
      .split('\n')
      .filter((id) => id !== '' && id !== this.busyboxImage.id);
    if (images.length > 0) await host.mustDocker('rmi', '-f', ...new Set(images));
    // A test may have removed or retagged busybox itself; its own reference must be all that is left.
    await host.mustDocker('pull', '-q', this.busybox);
    const references = (
      await host.mustDocker('image', 'inspect', '--format', '{{range .RepoTags}}{{println .}}{{end}}', this.busybox)
    ).split('\n');
    const others = references.filter((reference) => reference !== '' && reference !== this.busybox);
    if (others.length > 0) await host.mustDocker('rmi', ...others);
  }

  /** Copies the services' logs to where a person finds them when a test failed: .cache/e2e-logs/FILE. */
  private keepLogs(): void {
    const target = join(repositoryRoot, '.cache/e2e-logs', basename(expect.getState().testPath ?? 'unknown', '.test.ts'));
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target, { recursive: true });
    cpSync(join(this.host.dataRoot, 'logs'), target, { recursive: true });
  }
}

/** Starts a stack before the tests of this file, and cleans up and checks for leaks after them. */
export function useStack(options: E2eOptions = {}): E2eStack {
  const stack = new E2eStack(options);
  beforeAll(() => stack.start(), 180_000);
  afterAll(() => stack.finish(), 120_000);
  return stack;
}
