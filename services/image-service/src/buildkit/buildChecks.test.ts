import { describe, expect, it } from 'vitest';
import { parseDockerfile } from '../build/dockerfile/parse.ts';
import { readImage } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import { answerAbout, BuildChecks } from './buildChecks.ts';
import { toBuildOptions } from './frontendOptions.ts';
import { Progress } from './progress.ts';
import { SourceText } from './sourceText.ts';

const image = readImage({
  id: `sha256:${'b'.repeat(64)}`,
  config: '{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]},"history":[],"config":{"Env":["PATH=/bin"]}}',
  sizeBytes: 0,
});
const store = { find: () => image } as Partial<ImageStore> as ImageStore;
const build = { options: toBuildOptions({ platform: 'linux/amd64' }), contexts: new Map<string, string>(), store };

describe('checks of a build', () => {
  it('know nothing of a base that a context of the client stands for, however either is written', () => {
    const found = (from: string, contexts: string[] = []): string => {
      const source = new SourceText('Dockerfile', `FROM ${from}\nENV x=$nothing\n`);
      const given = { ...build, contexts: new Map(contexts.map((name) => [name, 'local:files'])) };
      return answerAbout('frontend.lint', source, given, {})['result.txt']?.toString() ?? '';
    };
    expect(found('alpine')).toContain('UndefinedVar');
    expect(found('alpine', ['busybox'])).toContain('UndefinedVar');
    expect(found('alpine', ['docker.io/library/alpine'])).toBe('');
    expect(found('docker.io/library/alpine:latest', ['alpine'])).toBe('');
  });

  it('are told while what they carry of the Dockerfile can be taken', async () => {
    const text = `FROM alpine\n${'# padding\n'.repeat(70_000)}${'ENV a $b\n'.repeat(60)}`;
    const progress = new Progress();
    const checks = new BuildChecks(build);
    checks.found(new SourceText('Dockerfile', text), progress.vertex('definition'));
    checks.begin(parseDockerfile(text), {});
    checks.tell();
    progress.end();
    const bytes: number[] = [];
    for await (const { warnings } of progress.read(new AbortController().signal))
      bytes.push(...warnings.map(({ info }) => info?.data.length ?? 0));
    expect(bytes).toHaveLength(11);
    expect(new Set(bytes)).toEqual(new Set([text.length]));
  });
});
