/** Questions about a Dockerfile, which build nothing: `--call=check`, `outline`, `targets`. Answers are documents and the same as text. */
import type { Finding } from '../build/check/check.ts';
import { rules, ruleUrl } from '../build/check/rules.ts';
import type { Location } from '../build/dockerfile/instructions.ts';
import type { Outline, OutlineLoan, Target } from '../build/outline.ts';
import { columns } from './columns.ts';
import { sourceExcerpt } from './sourceExcerpt.ts';
import type { SourceText } from './sourceText.ts';

export type Answer = Readonly<Record<string, Buffer>>;

const version = '1.0.0';

const questions = [
  {
    name: 'frontend.outline',
    description: 'List all parameters current build target supports',
    opts: [{ name: 'target', description: 'Target build stage' }],
    metadata: ['result.json', 'result.txt'],
  },
  { name: 'frontend.targets', description: 'List all targets current build supports', opts: [], metadata: ['result.json', 'result.txt'] },
  { name: 'frontend.lint', description: 'Lint a Dockerfile', opts: [], metadata: ['result.json', 'result.txt', 'result.statuscode'] },
  {
    name: 'frontend.subrequests.describe',
    description: 'List available subrequest types',
    opts: null,
    metadata: ['result.json', 'result.txt'],
  },
] as const;

export type Question = (typeof questions)[number]['name'];

export function isQuestion(name: string): name is Question {
  return questions.some((question) => question.name === name);
}

/** Which questions there are. */
export function describe(): Answer {
  const requests = questions.map(({ name, description, opts, metadata }) => ({
    name,
    version,
    type: 'rpc',
    description,
    opts,
    inputs: null,
    metadata: metadata.map((each) => ({ name: each, description: '' })),
    refs: null,
  }));
  const rows = questions.map(({ name, description }) => [name.replace(/^frontend\./, ''), version, description]);
  return answer(requests, columns([['NAME', 'VERSION', 'DESCRIPTION'], ...rows], 1));
}

export function targetsAnswer(targets: readonly Target[], source: SourceText): Answer {
  const list = targets.map(({ name, isDefault, description, base, platform, location }) => ({
    ...(name === undefined ? {} : { name }),
    ...(isDefault ? { default: true } : {}),
    ...(description === undefined ? {} : { description }),
    base,
    ...(platform === undefined ? {} : { platform }),
    location: toLocation(location),
  }));
  const rows = targets.map(({ name = '', isDefault, description = '' }) => [isDefault ? `${name} (default)`.trim() : name, description]);
  return answer({ targets: list, sources: [source.bytes.toString('base64')] }, columns([['TARGET', 'DESCRIPTION'], ...rows], 1));
}

export function outlineAnswer({ name, description, args, secrets, ssh }: Outline, source: SourceText): Answer {
  const document = {
    ...(name === undefined ? {} : { name }),
    ...(description === undefined ? {} : { description }),
    ...filled({
      args: args.map((arg) => ({ ...arg, location: toLocation(arg.location) })),
      secrets: secrets.map(toLoan),
      ssh: ssh.map(toLoan),
    }),
    sources: [source.bytes.toString('base64')],
  };
  const parts: string[] = [];
  if (name !== undefined) {
    const rows = [['TARGET:', name], ...(description === undefined ? [] : [['DESCRIPTION:', description]])];
    parts.push(columns(rows, 1));
  }
  if (args.length > 0) {
    const rows = args.map((arg) => [arg.name, arg.value ?? '', arg.description ?? '']);
    parts.push(columns([['BUILD ARG', 'VALUE', 'DESCRIPTION'], ...rows], 3));
  }
  for (const [title, loans] of [
    ['SECRET', secrets],
    ['SSH', ssh],
  ] as const) {
    const rows = loans.map((loan) => [loan.name, loan.isRequired ? 'true' : '']);
    if (rows.length > 0) parts.push(columns([[title, 'REQUIRED'], ...rows], 3));
  }
  return answer(document, parts.map((part) => `${part}\n`).join(''));
}

/** What is wrong so that no build could begin: its words, and where. */
interface CheckFailure {
  readonly message: string;
  readonly location: Location | undefined;
}

export function checkAnswer(findings: readonly Finding[], source: SourceText, failure: CheckFailure | undefined): Answer {
  const document = {
    warnings:
      findings.length === 0
        ? null
        : findings.map(({ rule, text, location }) => ({
            ruleName: rule,
            description: rules[rule].description,
            ...(ruleUrl(rule) === '' ? {} : { url: ruleUrl(rule) }),
            detail: text,
            location: toLocation(location),
          })),
    sources: [{ filename: source.filename, data: source.bytes.toString('base64'), language: 'Dockerfile' }],
    ...(failure === undefined ? {} : { buildError: toBuildError(failure) }),
  };
  const text = findings.map(({ rule, text: detail, location }) => {
    const url = ruleUrl(rule);
    return `\nWARNING: ${rule}${url === '' ? '' : ` - ${url}`}\n${detail}\n${sourceExcerpt(source, location)}`;
  });
  const isClean = findings.length === 0 && failure === undefined;
  return { ...answer(document, text.join('')), 'result.statuscode': Buffer.from(isClean ? '0' : '1') };
}

function toBuildError({ message, location }: CheckFailure): object {
  return { message, location: location === undefined ? {} : toLocation(location) };
}

function answer(document: object, text: string): Answer {
  return {
    'result.json': Buffer.from(JSON.stringify(document, undefined, 2)),
    'result.txt': Buffer.from(text),
    version: Buffer.from(version),
  };
}

function toLocation({ startLine, endLine }: Location): object {
  return { ranges: [{ start: { line: startLine }, end: { line: endLine } }] };
}

function toLoan({ name, isRequired, location }: OutlineLoan): object {
  return { name, ...(isRequired ? { required: true } : {}), location: toLocation(location) };
}

function filled(lists: Readonly<Record<string, readonly object[]>>): object {
  return Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0));
}
