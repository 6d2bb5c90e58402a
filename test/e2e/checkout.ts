/** Other checkouts of Flotilla, and `flotilla upgrade` to them. */
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CommandResult } from '@flotilla/testkit';
import { expect } from 'vitest';
import type { E2eStack } from './stack.ts';

export const repository: string = join(import.meta.dirname, '../..');
/** The version of this one. */
export const present: string = (JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as { version: string }).version;

/** This checkout under another version; packages of others are shared by links. */
export function checkout(stack: E2eStack, version: string): string {
  const target = join(stack.host.filesDirectory, version);
  const isSource = (path: string): boolean => !/\/(\.cache|test|results)$/.test(path);
  for (const part of ['packages', 'services', 'deploy', 'package.json']) {
    cpSync(join(repository, part), join(target, part), { recursive: true, verbatimSymlinks: true, filter: isSource });
  }
  const modules = join(target, 'node_modules');
  mkdirSync(modules);
  cpSync(join(repository, 'node_modules/@flotilla'), join(modules, '@flotilla'), { recursive: true, verbatimSymlinks: true });
  for (const name of readdirSync(join(repository, 'node_modules'))) {
    if (name !== '@flotilla' && !name.startsWith('.vite')) symlinkSync(join(repository, 'node_modules', name), join(modules, name));
  }
  edit(join(target, 'package.json'), (text) => text.replace(`"version": "${present}"`, `"version": "${version}"`));
  return target;
}

export function edit(path: string, change: (text: string) => string): void {
  const before = readFileSync(path, 'utf8');
  const after = change(before);
  expect(after).not.toBe(before);
  writeFileSync(path, after);
}

/** Every service starts anew, one after another. */
export const upgradeTakesMs = 150_000;

export function upgrade({ host }: E2eStack, from: string): Promise<CommandResult> {
  const args = ['upgrade', '--from', from, '--data-root', host.dataRoot, '--exec-root', host.execRoot];
  return host.run('sh', [join(repository, 'deploy/flotilla'), ...args], { timeoutMs: upgradeTakesMs });
}
