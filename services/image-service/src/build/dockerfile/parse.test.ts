// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is the language under test
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDockerfile, parseInstructionLine } from './parse.ts';

const soak = process.env.FLOTILLA_SOAK === '1';

/** The instructions of the only stage. */
function instructions(...lines: string[]) {
  return parseDockerfile(['FROM base', ...lines].join('\n')).stages[0]?.instructions ?? [];
}

describe('a Dockerfile', () => {
  it('has arguments, stages and their names', () => {
    const { metaArgs, stages } = parseDockerfile('ARG V=1\nfrom --platform=linux/amd64 a:${V} AS Builder\nRUN x\nFROM builder\n');
    expect(metaArgs.map(({ args }) => args)).toEqual([[{ name: 'V', value: '1' }]]);
    expect(stages.map(({ name, from }) => [name, from.image, from.platform])).toEqual([
      ['builder', 'a:${V}', 'linux/amd64'],
      [undefined, 'builder', undefined],
    ]);
  });

  it('joins continued lines, without comments and empty ones between', () => {
    const { stages, warnings } = parseDockerfile('FROM a\n  # comment\nRUN one \\\n# no\n  two \\  \n\n  three\nUSER x');
    expect(stages[0]?.instructions.map(({ original, location }) => [original, location])).toEqual([
      ['RUN one   two   three', { startLine: 3, endLine: 7 }],
      ['USER x', { startLine: 8, endLine: 8 }],
    ]);
    expect(warnings).toMatchObject([{ text: expect.stringContaining('Empty continuation line found'), line: 7 }]);
  });

  it('may be almost all comments', { timeout: 10_000 }, () => {
    const lines = Array.from({ length: 99_999 }, (_, index) => `# line ${index}`);
    const { stages } = parseDockerfile([...lines, 'FROM a'].join('\n'));
    expect(stages[0]?.from.comments?.length).toBe(99_999);
  });

  it('may escape by a backtick', () => {
    const { stages, directives } = parseDockerfile('# escape=`\r\nFROM a\r\nCOPY a `\r\n  C:\\b\\\r\n');
    expect(directives.escapeToken).toBe('`');
    expect(stages[0]?.instructions[0]).toMatchObject({ sources: ['a'], destination: 'C:\\b\\' });
  });

  it.each([
    ['', 'file with no instructions'],
    ['RUN x', 'dockerfile parse error on line 1: no build stage in current context'],
    ['FROM a\n\nFOO bar', 'dockerfile parse error on line 3: unknown instruction: FOO (did you mean FROM?)'],
    ['FROM a\ncopi x y', 'dockerfile parse error on line 2: unknown instruction: copi (did you mean copy?)'],
    ['FROM a\nQUX x y', 'dockerfile parse error on line 2: unknown instruction: QUX'],
    ['FROM a b', 'dockerfile parse error on line 1: FROM requires either one or three arguments'],
    [
      'FROM a AS 1x',
      `dockerfile parse error on line 1: invalid name for build stage: "1x", name can't start with a number or contain symbols`,
    ],
    ['FROM a\nENV x', 'dockerfile parse error on line 2: ENV must have two arguments'],
    ['FROM a\nENV x=1 y', `dockerfile parse error on line 2: Syntax error - can't find = in "y". Must be of the form: name=value`],
    [
      'FROM a\nCOPY x',
      'dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined',
    ],
    ['FROM a\nCOPY --wat x y', 'dockerfile parse error on line 2: unknown flag: --wat'],
    ['FROM a\nCOPY --from=1 --from=2 x y', 'dockerfile parse error on line 2: duplicate flag specified: from'],
    ['FROM a\nRUN ["x", 1]', 'dockerfile parse error on line 2: when using JSON array syntax, arrays must be comprised of strings only'],
    ['FROM a\nSHELL sh', 'dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form'],
    ['FROM a\nONBUILD ONBUILD RUN x', "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"],
    ['FROM a\nONBUILD FROM x', "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger"],
    ['FROM a\nHEALTHCHECK WHAT', 'dockerfile parse error on line 2: Unknown type "WHAT" in HEALTHCHECK (try CMD)'],
    ['FROM a\nHEALTHCHECK NONE x', 'dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments'],
    ['FROM a\nHEALTHCHECK --interval=1us CMD x', 'dockerfile parse error on line 2: Interval "interval" cannot be less than 1ms'],
    ['FROM a\nRUN <<EOF\nx', 'dockerfile parse error on line 2: unterminated heredoc'],
    ['FROM a\nWORKDIR', 'dockerfile parse error on line 2: WORKDIR requires exactly one argument'],
    ['# escape=x\nFROM a', "invalid ESCAPE token 'x' does not match ` or \\"],
  ])('%j is refused: %s', (text, message) => {
    expect(() => parseDockerfile(text)).toThrow(message);
  });
});

describe('instructions', () => {
  it('take lists in JSON, or words', () => {
    expect(instructions('CMD ["a", "b c"]', 'CMD a "b c"', 'ENTRYPOINT ["x"', 'VOLUME ["/a b"]', 'VOLUME /a /b', 'CMD []')).toMatchObject([
      { command: { form: 'exec', args: ['a', 'b c'] } },
      { command: { form: 'shell', args: ['a "b c"'] } },
      { command: { form: 'shell', args: ['["x"'] } },
      { paths: ['/a b'] },
      { paths: ['/a', '/b'] },
      { command: { form: 'exec', args: [] } },
    ]);
  });

  it('keep quotes and escapes of pairs for when they are expanded', () => {
    expect(instructions('ENV a="b c" d=e\\ f', 'ENV one two three', 'LABEL "x.y"=\'z\'', 'ARG a=1 b')).toMatchObject([
      {
        pairs: [
          { key: 'a', value: '"b c"' },
          { key: 'd', value: 'e\\ f' },
        ],
      },
      { pairs: [{ key: 'one', value: 'two three' }] },
      { pairs: [{ key: '"x.y"', value: "'z'" }] },
      { args: [{ name: 'a', value: '1' }, { name: 'b' }] },
    ]);
  });

  it('take flags and mounts', () => {
    expect(
      instructions(
        'COPY --from=0 --chown=1:2 --chmod=755 --link --parents --exclude=*.md --exclude=b a b /',
        'RUN --mount=type=cache,target=/c,ro --network=none x',
      ),
    ).toMatchObject([
      { from: '0', chown: '1:2', chmod: '755', link: true, parents: true, excludes: ['*.md', 'b'], sources: ['a', 'b'], destination: '/' },
      {
        network: 'none',
        command: { args: ['x'] },
        mounts: [
          {
            options: [
              { key: 'type', value: 'cache' },
              { key: 'target', value: '/c' },
              { key: 'ro', value: undefined },
            ],
          },
        ],
      },
    ]);
  });

  it('take here-documents, several, without tabs, quoted', () => {
    expect(instructions('COPY <<A <<-"B" /d/', 'one $x', 'A', '\ttwo $x', '\tB', 'RUN cat <<EOF && x', 'EOF')).toMatchObject([
      {
        sources: [],
        destination: '/d/',
        inline: [
          { name: 'A', content: 'one $x\n', expand: true },
          { name: 'B', content: 'two $x\n', expand: false },
        ],
      },
      { command: { args: ['cat <<EOF && x'] }, hereDocs: [{ name: 'EOF', content: '' }] },
    ]);
  });

  it('read health checks', () => {
    expect(instructions('HEALTHCHECK --interval=1m30s --timeout=2s --start-interval=500ms --retries=3 CMD x y')).toMatchObject([
      { check: { Test: ['CMD-SHELL', 'x y'], Interval: 90e9, Timeout: 2e9, StartInterval: 5e8, Retries: 3 } },
    ]);
  });

  it('are triggers of ONBUILD', () => {
    const [onbuild] = instructions('ONBUILD COPY --chown=1 a b');
    expect(onbuild).toMatchObject({ trigger: 'COPY --chown=1 a b' });
    expect(parseInstructionLine('COPY --chown=1 a b')).toMatchObject({ kind: 'copy', chown: '1' });
  });
});

describe('whatever is written', () => {
  const word = fc.constantFrom(
    'FROM',
    'RUN',
    'COPY',
    'ENV',
    'ARG',
    'ONBUILD',
    'HEALTHCHECK',
    'SHELL',
    'a',
    '=',
    '"',
    "'",
    '\\',
    '\n',
    ' ',
    '<<EOF',
    'EOF',
    '--from=',
    '--',
    '[',
    ']',
    '["x"]',
    '${',
    '}',
    '#',
    '# escape=`\n',
    '\t',
    '\0',
    '🐳',
  );

  it('is taken, or refused with words, soon', { timeout: soak ? 300_000 : 20_000 }, () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), (words) => {
        for (const text of [words.join(''), `FROM a\n${words.join(' ')}`]) {
          try {
            parseDockerfile(text);
          } catch (error) {
            expect(error).toMatchObject({ kind: 'InvalidParameter' });
          }
        }
      }),
      { numRuns: soak ? 50_000 : 1_000, seed: 7 },
    );
  });
});
