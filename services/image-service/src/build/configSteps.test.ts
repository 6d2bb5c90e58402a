import { describe, expect, it } from 'vitest';
import { applyToConfig, type ConfigState } from './configSteps.ts';
import type { Instruction } from './dockerfile/instructions.ts';
import { parseDockerfile } from './dockerfile/parse.ts';

/** The configuration after some instructions, and what history says of the last. */
function after(...lines: string[]): ConfigState & { readonly said: string } {
  const { stages } = parseDockerfile(['FROM a', ...lines].join('\n'));
  const state: ConfigState & { said: string } = { config: {}, author: '', hasOwnCommand: false, shell: ['/bin/sh', '-c'], said: '' };
  for (const instruction of (stages[0]?.instructions ?? []) as Instruction[]) {
    state.said = applyToConfig(state, instruction, { word: (text) => text, words: (text) => [text], say: () => undefined });
  }
  return state;
}

describe('EXPOSE', () => {
  it('makes the same image in whatever order ports are written', () => {
    const [first, second] = [after('EXPOSE 80 2375/udp 443'), after('EXPOSE 443 80 2375/udp')];
    expect(JSON.stringify(first)).toBe(JSON.stringify(second));
    expect(first.said).toBe('EXPOSE 2375/udp 443 80');
    expect(Object.keys(first.config.ExposedPorts ?? {})).toEqual(['2375/udp', '443/tcp', '80/tcp']);
  });

  it('takes every port there is, one by one', { timeout: 10_000 }, () => {
    const ports = Array.from({ length: 65_535 }, (_, index) => index + 1);
    expect(Object.keys(after(`EXPOSE ${ports.join(' ')}`).config.ExposedPorts ?? {})).toHaveLength(65_535);
  });
});

describe('MAINTAINER', () => {
  it('is taken as it is written', () => {
    expect(after('MAINTAINER "Docker \\', 'IO" $HOME <io@example.com>').author).toBe('"Docker IO" $HOME <io@example.com>');
  });
});

describe('ONBUILD', () => {
  it('is read where the image is built on, not before', () => {
    expect(after('ONBUILD /usr/local/bin/python-build --dir /app/src').config.OnBuild).toEqual([
      '/usr/local/bin/python-build --dir /app/src',
    ]);
  });
});
