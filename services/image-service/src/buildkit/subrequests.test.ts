import { describe, expect, it } from 'vitest';
import { parseDockerfile } from '../build/dockerfile/parse.ts';
import { outlineOf, targetsOf } from '../build/outline.ts';
import { SourceText } from './sourceText.ts';
import { checkAnswer, describe as describeQuestions, outlineAnswer, targetsAnswer } from './subrequests.ts';

const text = `# VERSION which one
ARG VERSION=3
ARG OTHER=unused
# base what all stand on
FROM alpine:$VERSION AS base
ARG FLAVOUR=sweet-$VERSION
FROM base AS unneeded
ARG NEVER
# last is it
FROM base AS last
RUN --mount=type=secret,id=key,required=true --mount=type=ssh true
RUN --mount=type=secret,target=/run/token true
`;
const source = new SourceText('Dockerfile', text);

describe('a question about a Dockerfile', () => {
  it('for its outline is answered with what the target takes', () => {
    const dockerfile = parseDockerfile(text);
    const target = dockerfile.stages.at(-1);
    if (target === undefined) throw new Error('no stages');
    const names = { buildArgs: new Map([['VERSION', '4']]), globals: new Map<string, string>(), isContext: () => false };
    const answer = outlineAnswer(outlineOf(dockerfile, target, names), source);
    expect(answer['result.txt']?.toString()).toBe(`TARGET:      last
DESCRIPTION: is it

BUILD ARG   VALUE     DESCRIPTION
VERSION     4         which one
FLAVOUR     sweet-4   

SECRET   REQUIRED
key      true
token    

SSH       REQUIRED
default   

`);
    expect(JSON.parse(answer['result.json']?.toString() ?? '')).toMatchObject({
      name: 'last',
      args: [{ name: 'VERSION', value: '4', location: { ranges: [{ start: { line: 2 }, end: { line: 2 } }] } }, { name: 'FLAVOUR' }],
      secrets: [{ name: 'key', required: true }, { name: 'token' }],
      ssh: [{ name: 'default' }],
      sources: [Buffer.from(text).toString('base64')],
    });
  });

  it('for its targets is answered with its stages', () => {
    const answer = targetsAnswer(targetsOf(parseDockerfile(text)), source);
    expect(answer['result.txt']?.toString()).toBe(`TARGET         DESCRIPTION
base           what all stand on
unneeded       
last (default) is it
`);
    expect(JSON.parse(answer['result.json']?.toString() ?? '')).toMatchObject({
      targets: [{ base: 'alpine:$VERSION' }, {}, { default: true }],
    });
  });

  it('for what is unwise is answered with the lines', () => {
    const finding = {
      rule: 'StageNameCasing',
      text: "Stage name 'B' should be lowercase",
      location: { startLine: 5, endLine: 5 },
    } as const;
    const answer = checkAnswer([finding], source, undefined);
    expect(answer['result.statuscode']?.toString()).toBe('1');
    expect(answer['result.txt']?.toString()).toBe(`
WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'B' should be lowercase
Dockerfile:5
--------------------
   3 |     ARG OTHER=unused
   4 |     # base what all stand on
   5 | >>> FROM alpine:$VERSION AS base
   6 |     ARG FLAVOUR=sweet-$VERSION
   7 |     FROM base AS unneeded
--------------------
`);
    const clean = checkAnswer([], source, undefined);
    expect([clean['result.statuscode']?.toString(), JSON.parse(clean['result.json']?.toString() ?? '').warnings]).toEqual(['0', null]);
    const broken = checkAnswer([], source, { message: 'no', location: { startLine: 2, endLine: 2 } });
    expect(JSON.parse(broken['result.json']?.toString() ?? '').buildError).toEqual({
      message: 'no',
      location: { ranges: [{ start: { line: 2 }, end: { line: 2 } }] },
    });
  });

  it('for questions is answered with all of them', () => {
    expect(describeQuestions()['result.txt']?.toString()).toBe(`NAME                 VERSION DESCRIPTION
outline              1.0.0   List all parameters current build target supports
targets              1.0.0   List all targets current build supports
lint                 1.0.0   Lint a Dockerfile
subrequests.describe 1.0.0   List available subrequest types
`);
  });
});
