import { describe, expect, it } from 'vitest';
import { ignoredSources } from '../context/dockerignore.ts';
import { parseDockerfile } from '../dockerfile/parse.ts';
import { type CheckSubject, check } from './check.ts';
import { readCheckOptions } from './checkOptions.ts';
import { type RuleName, rules, ruleUrl } from './rules.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };

function findings(text: string, more: Partial<CheckSubject> = {}): string[] {
  const dockerfile = parseDockerfile(text);
  const base = { environment: ['HOME=/root', 'GIVEN=1'], hasShell: false, platform: amd64 };
  return check({
    dockerfile,
    needed: dockerfile.stages,
    buildArgs: new Map(),
    globals: new Map([['TARGETPLATFORM', 'linux/amd64']]),
    platform: amd64,
    baseFacts: () => base,
    isIgnored: () => false,
    counts: () => true,
    ...more,
  }).map(({ rule, text: said, location }) => `${location.startLine} ${rule}: ${said}`);
}

describe('a Dockerfile', () => {
  it('in which nothing is unwise has no findings', () => {
    const text = `# syntax=docker/dockerfile:1
ARG BASE=alpine
# first builds
FROM --platform=$BUILDPLATFORM \${BASE} AS first
ARG WORD=x
ENV PATH=$PATH:/more A=$WORD B=\${GIVEN}
WORKDIR /a
WORKDIR b/$A
COPY --chown=$WORD a b /c/
CMD ["a"]
FROM first
WORKDIR below
ENTRYPOINT ["x"]
`;
    expect(findings(text, { globals: new Map([['BUILDPLATFORM', 'linux/amd64']]) })).toEqual([]);
  });

  it('whose COPY and ADD name what .dockerignore keeps back, where that is asked for', () => {
    const isIgnored = ignoredSources('**/tmp\nsecret.*\n');
    const text = `FROM a
COPY ./tmp/x ok secret.key /y/
COPY --from=a tmp /tmp
ADD a/tmp/ /z
ADD http://x/tmp $tmp . /z/
`;
    expect(findings(text, { isIgnored }).filter((line) => line.includes('CopyIgnoredFile'))).toEqual([
      '2 CopyIgnoredFile: Attempting to Copy file "tmp/x" that is excluded by .dockerignore',
      '2 CopyIgnoredFile: Attempting to Copy file "secret.key" that is excluded by .dockerignore',
      '4 CopyIgnoredFile: Attempting to Add file "a/tmp" that is excluded by .dockerignore',
    ]);
    const { counts } = readCheckOptions(undefined);
    // Nobody looks where nobody wants to know.
    const unasked = (): never => expect.unreachable();
    expect(findings(text, { isIgnored: unasked, counts }).join('\n')).not.toContain('CopyIgnoredFile');
    // With an exception it is not certain; the whole context is kept back only by a pattern for all of it.
    for (const [patterns, isFound] of [
      ['*\n!ok\n', false],
      ['tmp\n!ok\n', false],
      ['*\n', true],
      ['x\n', false],
    ] as const)
      expect(findings('FROM a\nCOPY . /\n', { isIgnored: ignoredSources(patterns) }).length > 0, patterns).toBe(isFound);
  });

  it.each([
    ['FROM a\nrun x\nRUN y', "2 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)"],
    ['from a\nrun x\nRun y', "3 ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase)"],
    ['FROM a AS Two\nRUN x', "1 StageNameCasing: Stage name 'Two' should be lowercase"],
    ['FROM a as two\nRUN x', "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"],
    ['FROM a AS b\nFROM c AS b', '2 DuplicateStageName: Duplicate stage name "b", stage names should be unique'],
    ['FROM a AS scratch', '1 ReservedStageName: Stage name should not use the same name as reserved stage "scratch"'],
    ['FROM a\nRUN x \\\n\n y', '4 NoEmptyContinuation: Empty continuation line'],
    ['FROM a\nMAINTAINER me', '2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label'],
    ['FROM a\nENV b c', '2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format'],
    ['FROM a\nCMD x', '2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals'],
    [
      'FROM a\nCMD ["a"]\nCMD ["b"]',
      '2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used',
    ],
    ['FROM a\nWORKDIR b', '2 WorkdirRelativePath: Relative workdir "b" can have unexpected results if the base image changes'],
    ['FROM a\nENV x=$HOMER', "2 UndefinedVar: Usage of undefined variable '$HOMER' (did you mean $HOME?)"],
    ['FROM a\nCOPY x $nothing/', "2 UndefinedVar: Usage of undefined variable '$nothing'"],
    ['ARG VERSION=1\nFROM a:$VERSIO', "2 UndefinedArgInFrom: FROM argument 'VERSIO' is not declared (did you mean VERSION?)"],
    ['ARG X\nFROM $X\n', '2 InvalidDefaultArgInFrom: Default value for ARG $X results in empty or invalid base image name'],
    [
      'FROM --platform=linux/arm64 a',
      '1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/arm64"',
    ],
    [
      'FROM --platform=$TARGETPLATFORM a',
      '1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior',
    ],
    ['FROM a\nARG DB_PASSWORD', '2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "DB_PASSWORD")'],
    ['FROM a\nEXPOSE 80/TCP', "2 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"],
    ['FROM a\nEXPOSE 1:80', "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1:80'"],
    ['# this one\nFROM a AS b', '2 InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>`'],
  ])('%j is told of', (text, expected) => {
    expect(findings(text, { buildArgs: new Map([['X', 'a']]) })).toContain(expected);
  });

  it('tells of a base for another platform, and of variables only where the base is known', () => {
    const base = { environment: [], hasShell: true, platform: { os: 'linux', architecture: 'arm64' } };
    expect(findings('FROM a\nCMD x', { baseFacts: () => base })).toEqual([
      '1 InvalidBaseImagePlatform: Base image a was pulled with platform "linux/arm64", expected "linux/amd64" for current build',
    ]);
    expect(findings('FROM a\nENV x=$y', { baseFacts: () => undefined })).toEqual([]);
    expect(findings('FROM scratch\nENV x=$y')).toHaveLength(1);
  });

  it('of many lines is read in their number', { timeout: 10_000 }, () => {
    const lines = Array.from({ length: 30_000 }, (_, index) => `ENV V${index}=$HOME`);
    expect(findings(['FROM a', ...lines, 'USER $V3000O'].join('\n'))).toEqual([
      "30002 UndefinedVar: Usage of undefined variable '$V3000O' (did you mean $V3000?)",
    ]);
  });

  it('has a hundred findings at most, of rules that count', () => {
    const text = ['FROM a', ...Array.from({ length: 150 }, (_, index) => `ENV a${index} $nothing`)].join('\n');
    expect(findings(text)).toHaveLength(100);
    const undefinedOnly = findings(text, { counts: (rule) => rule === 'UndefinedVar' });
    expect(undefinedOnly).toHaveLength(100);
    expect(undefinedOnly.at(-1)).toContain('101 UndefinedVar');
  });

  it('gets no guesses at words that nobody mistypes', () => {
    const long = 'A'.repeat(100);
    expect(findings(`FROM a\nENV ${long}=1\nENV x=$${long}B`)).toEqual([`3 UndefinedVar: Usage of undefined variable '$${long}B'`]);
  });
});

describe('check options', () => {
  it('say which rules count', () => {
    const counted = (text: string | undefined): RuleName[] => (Object.keys(rules) as RuleName[]).filter(readCheckOptions(text).counts);
    expect(counted(undefined)).not.toContain('InvalidDefinitionDescription');
    expect(counted('experimental=all')).toContain('InvalidDefinitionDescription');
    expect(counted('skip=UndefinedVar, StageNameCasing;error=true')).not.toContain('StageNameCasing');
    expect(counted('skip=all')).toEqual([]);
    expect(readCheckOptions('skip=all;error=true').isStrict).toBe(true);
    expect(readCheckOptions('skip=all').isStrict).toBe(false);
  });

  it('are refused when they are none', () => {
    expect(() => readCheckOptions('skip')).toThrow('invalid check option "skip"');
    expect(() => readCheckOptions('what=1')).toThrow('invalid check option "what"');
    expect(() => readCheckOptions('error=maybe')).toThrow('failed to parse check option "error=maybe"');
  });
});

it('each rule has its page', () => {
  expect(ruleUrl('JSONArgsRecommended')).toBe('https://docs.docker.com/go/dockerfile/rule/json-args-recommended/');
  expect(ruleUrl('FromPlatformFlagConstDisallowed')).toBe(
    'https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/',
  );
  expect(ruleUrl('InvalidBaseImagePlatform')).toBe('');
});
