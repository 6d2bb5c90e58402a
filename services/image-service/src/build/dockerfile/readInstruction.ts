/** One logical line as an instruction. Errors are plain: whoever knows the line says where it is. */

import { didYouMean } from '../suggestion.ts';
import { Flags, takeFlags } from './flags.ts';
import { readMark } from './hereDocMarks.ts';
import type { Add, Command, Copy, From, Instruction, Pair, Run, RunMount } from './instructions.ts';
import type { LogicalLine } from './lines.ts';
import { readHealthcheck } from './readHealthcheck.ts';
import { blankWords, jsonList, shellWords } from './words.ts';

const instructionNames =
  'ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR'.split(' ');
const stageName = /^[a-z][a-z0-9_.-]*$/;

/** FROM with the name it gives its stage. */
export type NamedFrom = From & { readonly name?: string };

interface Parts {
  readonly line: LogicalLine;
  readonly escapeToken: string;
  readonly name: string;
  readonly flags: Flags;
  readonly rest: string;
  readonly written: { readonly location: LogicalLine['location']; readonly original: string; readonly comments?: readonly string[] };
}

/** @throws Error in dockerd's words. */
export function readInstruction(line: LogicalLine, escapeToken: string): Instruction | NamedFrom {
  const [, word = '', after = ''] = /^(\S+)(?:\s+([\s\S]*))?$/.exec(line.text) ?? [];
  const { flags, rest } = takeFlags(after.trim(), escapeToken);
  const parts = {
    line,
    escapeToken,
    name: word.toUpperCase(),
    flags: new Flags(flags),
    rest,
    written: { location: line.location, original: line.text, ...(line.comments.length === 0 ? {} : { comments: line.comments }) },
  };
  const read = dispatch(parts, word);
  parts.flags.end();
  return read;
}

function dispatch(parts: Parts, word: string): Instruction | NamedFrom {
  const { written, rest } = parts;
  switch (parts.name) {
    case 'FROM':
      return readFrom(parts);
    case 'ARG':
      return { kind: 'arg', ...written, args: shellWords(needed(parts), parts.escapeToken).map(readArgument) };
    case 'ENV':
      return { kind: 'env', ...written, pairs: readPairs(parts) };
    case 'LABEL':
      return { kind: 'label', ...written, pairs: readPairs(parts) };
    case 'COPY':
      return readCopy(parts);
    case 'ADD':
      return readAdd(parts);
    case 'RUN':
      return readRun(parts);
    case 'CMD':
      return { kind: 'cmd', ...written, command: readCommand(rest) };
    case 'ENTRYPOINT':
      return { kind: 'entrypoint', ...written, command: readCommand(rest) };
    case 'WORKDIR':
      return { kind: 'workdir', ...written, path: one(parts) };
    case 'USER':
      return { kind: 'user', ...written, user: one(parts) };
    case 'STOPSIGNAL':
      return { kind: 'stopsignal', ...written, signal: one(parts) };
    case 'MAINTAINER':
      return { kind: 'maintainer', ...written, name: one(parts) };
    case 'VOLUME':
      return { kind: 'volume', ...written, paths: jsonList(needed(parts)) ?? blankWords(rest) };
    case 'EXPOSE':
      return { kind: 'expose', ...written, ports: blankWords(needed(parts)) };
    case 'SHELL':
      return { kind: 'shell', ...written, shell: readShell(parts) };
    case 'HEALTHCHECK':
      return { kind: 'healthcheck', ...written, check: readHealthcheck(needed(parts), parts.flags) };
    case 'ONBUILD':
      return { kind: 'onbuild', ...written, trigger: readTrigger(parts) };
    default:
      throw new Error(`unknown instruction: ${word}${meant(word)}`);
  }
}

/** A suggestion in the case of the word. */
function meant(word: string): string {
  const isLower = word === word.toLowerCase();
  return didYouMean(isLower ? word : word.toUpperCase(), isLower ? instructionNames.map((name) => name.toLowerCase()) : instructionNames);
}

function needed({ name, rest }: Parts): string {
  if (rest === '') throw new Error(`${name} requires at least one argument`);
  return rest;
}

function one({ name, rest }: Parts): string {
  if (rest === '') throw new Error(`${name} requires exactly one argument`);
  return rest;
}

function readFrom(parts: Parts): NamedFrom {
  const words = blankWords(parts.rest);
  const [image = '', as = '', name] = words;
  if (words.length !== 1 && (words.length !== 3 || as.toUpperCase() !== 'AS'))
    throw new Error('FROM requires either one or three arguments');
  const lower = name?.toLowerCase();
  if (lower !== undefined && !stageName.test(lower)) {
    throw new Error(`invalid name for build stage: ${JSON.stringify(name)}, name can't start with a number or contain symbols`);
  }
  const platform = parts.flags.text('platform');
  return {
    kind: 'from',
    ...parts.written,
    image,
    ...(platform === undefined ? {} : { platform }),
    ...(lower === undefined ? {} : { name: lower }),
  };
}

function readArgument(word: string): { name: string; value?: string } {
  const equals = word.indexOf('=');
  const name = equals < 0 ? word : word.slice(0, equals);
  if (name === '') throw new Error('ARG names can not be blank');
  return equals < 0 ? { name } : { name, value: word.slice(equals + 1) };
}

function readPairs(parts: Parts): Pair[] {
  const { name, escapeToken } = parts;
  const rest = needed(parts);
  const words = shellWords(rest, escapeToken);
  if (!(words[0] ?? '').includes('=')) {
    const [, key = '', value] = /^(\S+)\s+([\s\S]+)$/.exec(rest) ?? [];
    if (value === undefined) throw new Error(`${name} must have two arguments`);
    return [{ key, value }];
  }
  return words.map((word) => {
    const equals = word.indexOf('=');
    if (equals < 0) throw new Error(`Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`);
    if (equals === 0) throw new Error(`${name} names can not be blank`);
    return { key: word.slice(0, equals), value: word.slice(equals + 1) };
  });
}

function readCommand(rest: string): Command {
  const list = jsonList(rest);
  if (list !== undefined) return { form: 'exec', args: list };
  return { form: 'shell', args: rest === '' ? [] : [rest] };
}

function readShell(parts: Parts): string[] {
  const list = jsonList(needed(parts));
  if (list === undefined) throw new Error('SHELL requires the arguments to be in JSON form');
  if (list.length === 0) throw new Error('SHELL requires at least one argument');
  return list;
}

function readTrigger(parts: Parts): string {
  const rest = needed(parts);
  const word = (/^\S+/.exec(rest)?.[0] ?? '').toUpperCase();
  if (word === 'ONBUILD') throw new Error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (word === 'FROM' || word === 'MAINTAINER') throw new Error(`${word} isn't allowed as an ONBUILD trigger`);
  const trigger = /^onbuild\s+([\s\S]*)$/i.exec(parts.line.text)?.[1] ?? rest;
  const documents = parts.line.hereDocs.map(({ name, content }) => `\n${content}${name}`);
  return trigger + documents.join('');
}

function readRun(parts: Parts): Run {
  const { flags, rest, line, written } = parts;
  const mounts = flags.texts('mount').map(readMount);
  const network = flags.text('network');
  if (network !== undefined && network !== 'default' && network !== 'none' && network !== 'host') {
    throw new Error(`invalid network mode: ${JSON.stringify(network)}`);
  }
  const security = flags.text('security');
  if (security !== undefined && security !== 'sandbox' && security !== 'insecure')
    throw new Error(`security ${JSON.stringify(security)} is not valid`);
  return {
    kind: 'run',
    ...written,
    command: readCommand(rest),
    hereDocs: line.hereDocs,
    mounts,
    ...(network === undefined ? {} : { network }),
    ...(security === undefined ? {} : { security }),
  };
}

/** Fields parted by commas, as in a line of CSV: a field may be quoted. */
function readMount(text: string): RunMount {
  const fields = text.match(/(?:"(?:[^"]|"")*"|[^,"])+/g) ?? [];
  const options = fields.map((field) => {
    const plain = /^".*"$/s.test(field) ? field.slice(1, -1).replaceAll('""', '"') : field;
    const equals = plain.indexOf('=');
    return equals < 0
      ? { key: plain.toLowerCase(), value: undefined }
      : { key: plain.slice(0, equals).toLowerCase(), value: plain.slice(equals + 1) };
  });
  const from = options.find(({ key }) => key === 'from')?.value;
  return { options, text, ...optional({ from }) };
}

/** Sources, here-documents and the destination. */
function readPaths({ name, rest, line, escapeToken }: Parts): Pick<Copy, 'sources' | 'inline' | 'destination'> {
  const words = jsonList(rest) ?? (line.hereDocs.length > 0 ? shellWords(rest, escapeToken) : blankWords(rest));
  const destination = words.at(-1);
  if (words.length < 2 || destination === undefined) {
    if (words.length === 0) throw new Error(`${name} requires at least one argument`);
    throw new Error(`${name} requires at least two arguments, but only one was provided. Destination could not be determined`);
  }
  const inlineNames = new Set(line.hereDocs.map((document) => document.name));
  const sources = words.slice(0, -1).filter((word) => {
    const mark = readMark(word);
    return mark === undefined || !inlineNames.has(mark.name);
  });
  return { sources, inline: line.hereDocs, destination };
}

function readCopy(parts: Parts): Copy {
  const { flags } = parts;
  const from = flags.text('from');
  return { kind: 'copy', ...parts.written, ...common(flags), ...optional({ from }), ...readPaths(parts) };
}

function readAdd(parts: Parts): Add {
  const { flags } = parts;
  const checksum = flags.text('checksum');
  const unpack = flags.boolean('unpack');
  return {
    kind: 'add',
    ...parts.written,
    ...common(flags),
    ...optional({ checksum }),
    keepGitDir: flags.boolean('keep-git-dir') ?? false,
    ...(unpack === undefined ? {} : { unpack }),
    ...readPaths(parts),
  };
}

function common(flags: Flags): Pick<Copy, 'chown' | 'chmod' | 'link' | 'parents' | 'excludes'> {
  const chown = flags.text('chown');
  const chmod = flags.text('chmod');
  return {
    ...optional({ chown, chmod }),
    link: flags.boolean('link') ?? false,
    parents: flags.boolean('parents') ?? false,
    excludes: flags.texts('exclude'),
  };
}

function optional<K extends string>(values: Record<K, string | undefined>): { [P in K]?: string } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as { [P in K]?: string };
}
