/** What tests of BuildKit's protocol have in common: a stack whose client has buildx, contexts, and builds in them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addDockerPlugins, type CommandOptions, type CommandResult, mustSucceed } from '@flotilla/testkit';
import { afterAll, beforeAll, expect } from 'vitest';
import { type E2eStack, useStack } from './stack.ts';

export class Buildx {
  readonly stack: E2eStack;
  private count = 0;

  constructor(stack: E2eStack) {
    this.stack = stack;
  }

  /** A context of these files; values are contents. */
  readonly context = (files: Readonly<Record<string, string>>): string => {
    const folder = join(this.stack.host.filesDirectory, `context-${++this.count}`);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), content.replaceAll('BUSYBOX', this.stack.busybox));
    }
    return folder;
  };

  readonly docker = (cwd: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> =>
    this.stack.host.dockerWith({ cwd, timeoutMs: 120_000, ...options }, ...args);

  /** Builds and gives what was said, which buildx does on its standard error. */
  readonly build = async (cwd: string, ...args: string[]): Promise<string> => {
    const all = ['build', '--progress=plain', ...args, '.'];
    return mustSucceed(await this.docker(cwd, all), `docker ${all.join(' ')}`).stderr;
  };

  readonly failure = async (cwd: string, ...args: string[]): Promise<string> => {
    const result = await this.docker(cwd, ['build', '--progress=plain', ...args, '.']);
    expect(result.code).toBe(1);
    return result.stderr;
  };

  readonly run = (image: string, ...command: string[]): Promise<string> =>
    this.stack.host.mustDocker('run', '--rm', '--network', 'none', image, ...command);
}

/** Starts a stack before the tests of this file. What the cache keeps is no leak, but it is something that is left: it is pruned after them. */
export function useBuildx(ignoreLeaks: readonly RegExp[] = []): Buildx {
  const stack = useStack({ ignoreLeaks });
  beforeAll(() => addDockerPlugins(stack.host), 300_000);
  afterAll(() => stack.host.mustDocker('builder', 'prune', '-af'));
  return new Buildx(stack);
}
