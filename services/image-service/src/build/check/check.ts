/** Reads a Dockerfile for what is allowed and unwise. Nothing is built for it. */
import { normalize } from 'node:path/posix';
import { formatPlatform, type Platform, parsePlatform, parseReference } from '@flotilla/oci';
import { parseGitSource } from '../context/git.ts';
import { isUrl } from '../copy/download.ts';
import type { Add, Arg, Copy, Dockerfile, From, Instruction, Location, Stage } from '../dockerfile/instructions.ts';
import { fromValues, NamedStages } from '../dockerfile/stageGraph.ts';
import { expand } from '../dockerfile/substitute.ts';
import { blankWords } from '../dockerfile/words.ts';
import { quoted } from '../goFormat.ts';
import { didYouMean } from '../suggestion.ts';
import type { RuleName } from './rules.ts';
import { RecordingVariables } from './variables.ts';

export interface Finding {
  readonly rule: RuleName;
  readonly text: string;
  readonly location: Location;
}

/** What is known of an image that a stage stands on. */
export interface BaseFacts {
  readonly environment: readonly string[];
  readonly hasShell: boolean;
  readonly platform: Platform;
}

export interface CheckSubject {
  readonly dockerfile: Dockerfile;
  /** Stages that the target needs; what the others do is nobody's concern. */
  readonly needed: readonly Stage[];
  readonly buildArgs: ReadonlyMap<string, string | undefined>;
  /** What every FROM sees. */
  readonly globals: ReadonlyMap<string, string>;
  readonly platform: Platform;
  /** Undefined: nothing is known of that image, and no rule that needs it finds anything. */
  readonly baseFacts: (image: string) => BaseFacts | undefined;
  /** Whether a path of the context is kept back by .dockerignore. */
  readonly isIgnored: (path: string) => boolean;
  /** Whether findings of a rule are wanted. */
  readonly counts: (rule: RuleName) => boolean;
}

/** Findings that are told. Nobody reads more, and looking on costs. */
const mostFindings = 100;

const reservedNames: ReadonlySet<string> = new Set(['context', 'scratch']);
const secretName = /(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)/i;
const harmlessName = /(?:_|^)(?:public|file|version)(?:_|$)/i;
const defaultPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** @returns in the order of the lines. */
export function check(subject: CheckSubject): Finding[] {
  return new Checker(subject).run().sort((a, b) => a.location.startLine - b.location.startLine);
}

/** What a stage leaves to those that stand on it. */
interface StageFacts {
  readonly environment: Set<string>;
  readonly isEnvironmentKnown: boolean;
  readonly args: Set<string>;
  readonly hasWorkdir: boolean;
  readonly hasShell: boolean;
}

class Checker {
  private readonly subject: CheckSubject;
  private readonly findings: Finding[] = [];
  private readonly facts = new Map<number, StageFacts>();
  private readonly stages: NamedStages;
  private readonly escapeToken: string;
  /** What every FROM sees, and the names that are declared for it. */
  private readonly globals: ReadonlyMap<string, string>;
  private readonly declared: ReadonlySet<string>;

  constructor(subject: CheckSubject) {
    const { buildArgs, globals } = subject;
    const { metaArgs, directives, stages } = subject.dockerfile;
    this.subject = subject;
    this.stages = new NamedStages(stages);
    this.escapeToken = directives.escapeToken;
    this.globals = fromValues(metaArgs, directives.escapeToken, { buildArgs, globals });
    this.declared = new Set([...this.globals.keys(), ...metaArgs.flatMap(namesOf)]);
  }

  run(): Finding[] {
    const { dockerfile, needed } = this.subject;
    for (const { line } of dockerfile.warnings)
      this.find('NoEmptyContinuation', 'Empty continuation line', { startLine: line, endLine: line });
    this.checkCasing();
    this.checkNames();
    this.checkDefaults();
    for (const arg of dockerfile.metaArgs) this.checkDescription('ARG', namesOf(arg), arg);
    for (const stage of dockerfile.stages) {
      if (this.hasEnough) break;
      if (stage.name !== undefined) this.checkDescription('FROM', [stage.name], stage.from);
      for (const instruction of stage.instructions) this.checkWriting(instruction);
    }
    for (const stage of needed) {
      if (this.hasEnough) break;
      this.facts.set(stage.index, this.checkStage(stage));
    }
    return this.findings;
  }

  private get hasEnough(): boolean {
    return this.findings.length >= mostFindings;
  }

  private find(rule: RuleName, text: string, location: Location): void {
    if (!this.hasEnough && this.subject.counts(rule)) this.findings.push({ rule, text, location });
  }

  /** One case for all instructions: that of most. */
  private checkCasing(): void {
    const { metaArgs, stages } = this.subject.dockerfile;
    const written = [...metaArgs, ...stages.flatMap(({ from, instructions }) => [from, ...instructions])];
    const counted = stages.flatMap(({ from, instructions }) => [from, ...instructions]).map(commandOf);
    const lower = counted.filter(isLower).length;
    const upper = counted.filter((name) => isUpper(name) && !isLower(name)).length;
    const fits = lower > upper ? isLower : isUpper;
    for (const instruction of written) {
      const name = commandOf(instruction);
      if (fits(name)) continue;
      const wanted = lower > upper ? 'lowercase' : 'uppercase';
      this.find(
        'ConsistentInstructionCasing',
        `Command '${name}' should match the case of the command majority (${wanted})`,
        instruction.location,
      );
    }
  }

  private checkNames(): void {
    const seen = new Set<string>();
    for (const { from, name } of this.subject.dockerfile.stages) {
      const [as, written] = blankWords(from.original).slice(-2);
      if (name === undefined || as === undefined || written === undefined) continue;
      const { location } = from;
      if (!isLower(written)) this.find('StageNameCasing', `Stage name '${written}' should be lowercase`, location);
      const command = commandOf(from);
      const matches = isLower(command) ? isLower(as) : !isUpper(command) || isUpper(as);
      if (!matches) this.find('FromAsCasing', `'${as}' and '${command}' keywords' casing do not match`, location);
      if (reservedNames.has(name))
        this.find('ReservedStageName', `Stage name should not use the same name as reserved stage ${quoted(name)}`, location);
      if (seen.has(name)) this.find('DuplicateStageName', `Duplicate stage name ${quoted(name)}, stage names should be unique`, location);
      seen.add(name);
    }
  }

  /** A comment right above an ARG or a stage with a name says what it is for. */
  private checkDescription(command: string, names: readonly string[], { comments = [], location }: Arg | From): void {
    const last = comments.at(-1);
    if (last === undefined || names.includes(last.split(' ', 1)[0] ?? '')) return;
    const example = names.length > 1 ? '<arg_key>' : (names[0] ?? '');
    this.find('InvalidDefinitionDescription', `Comment for ${command} should follow the format: \`# ${example} <description>\``, location);
  }

  /** With nothing but defaults each base must have a name. */
  private checkDefaults(): void {
    const { dockerfile, globals } = this.subject;
    const values = ifExpanded(() => fromValues(dockerfile.metaArgs, this.escapeToken, { buildArgs: new Map(), globals }));
    if (values === undefined) return;
    for (const { from } of dockerfile.stages) {
      const name = ifExpanded(() => expand(from.image, values, this.escapeToken));
      if (name !== undefined && !isImageName(name))
        this.find(
          'InvalidDefaultArgInFrom',
          `Default value for ARG ${from.image} results in empty or invalid base image name`,
          from.location,
        );
    }
  }

  /** What a line shows by itself. */
  private checkWriting(instruction: Instruction): void {
    const { location } = instruction;
    switch (instruction.kind) {
      case 'maintainer':
        this.find('MaintainerDeprecated', 'Maintainer instruction is deprecated in favor of using label', location);
        return;
      case 'env':
      case 'label': {
        const [, first = ''] = blankWords(instruction.original);
        const name = instruction.kind.toUpperCase();
        if (!first.includes('='))
          this.find('LegacyKeyValueFormat', `"${name} key=value" should be used instead of legacy "${name} key value" format`, location);
        return;
      }
      case 'arg':
        this.checkDescription('ARG', namesOf(instruction), instruction);
        return;
      default:
    }
  }

  private checkStage(stage: Stage): StageFacts {
    const facts = this.checkFrom(stage);
    const args = new Set(facts.args);
    const environment = new Set(facts.environment);
    const last = new Map<string, Instruction>();
    let { hasWorkdir, hasShell } = facts;
    for (const instruction of stage.instructions) {
      if (this.hasEnough) break;
      const { kind, location } = instruction;
      if (kind === 'arg') for (const name of namesOf(instruction)) args.add(name);
      if (facts.isEnvironmentKnown) this.checkVariables(instruction, environment, args);
      if (kind === 'cmd' || kind === 'entrypoint' || kind === 'healthcheck') {
        this.checkOnce(instruction, last);
        if (kind !== 'healthcheck' && instruction.command.form === 'shell' && !hasShell) {
          const text = `JSON arguments recommended for ${commandOf(instruction)} to prevent unintended behavior related to OS signals`;
          this.find('JSONArgsRecommended', text, location);
        }
      }
      if (kind === 'workdir') {
        const path = instruction.path;
        if (!hasWorkdir && !/^["']?[/$]/.test(path))
          this.find(
            'WorkdirRelativePath',
            `Relative workdir ${quoted(path)} can have unexpected results if the base image changes`,
            location,
          );
        hasWorkdir = true;
      }
      if (kind === 'shell') hasShell = true;
      if (kind === 'env') for (const { key } of instruction.pairs) environment.add(key);
      if (kind === 'env')
        this.checkSecrets(
          'ENV',
          instruction.pairs.map(({ key }) => key),
          location,
        );
      if (kind === 'arg') this.checkSecrets('ARG', namesOf(instruction), location);
      if (kind === 'copy' || kind === 'add') this.checkSources(instruction);
      if (kind === 'expose') for (const port of instruction.ports) this.checkPort(port, location);
    }
    return { environment, isEnvironmentKnown: facts.isEnvironmentKnown, args, hasWorkdir, hasShell };
  }

  private checkFrom({ from, index, name: stageName = '' }: Stage): StageFacts {
    const { platform, baseFacts } = this.subject;
    const values = new RecordingVariables((name) => this.globals.get(name));
    const name = expand(from.image, values, this.escapeToken);
    this.checkPlatform(from, stageName, values);
    for (const missing of values.missing) {
      if (this.declared.has(missing)) continue;
      this.find('UndefinedArgInFrom', `FROM argument '${missing}' is not declared${didYouMean(missing, this.declared)}`, from.location);
    }
    const below = this.stages.find(name, index);
    const facts = below === undefined ? undefined : this.facts.get(below.index);
    if (facts !== undefined) return facts;
    const base = name === 'scratch' ? { environment: [], hasShell: false, platform } : baseFacts(name);
    if (base !== undefined && from.platform === undefined) this.checkBase(name, base.platform, from.location);
    const environment = [...(base?.environment ?? []), defaultPath].map((variable) => variable.split('=', 1)[0] ?? '');
    return {
      environment: new Set(environment),
      isEnvironmentKnown: base !== undefined,
      args: new Set(),
      hasWorkdir: false,
      hasShell: base?.hasShell ?? false,
    };
  }

  private checkPlatform({ platform: written, location }: From, stageName: string, values: RecordingVariables): void {
    if (written === undefined) return;
    const before = values.used;
    const wanted = expand(written, values, this.escapeToken);
    if (values.used === before) {
      const platform = platformOf(wanted);
      if (platform === undefined || stageName.includes(platform.os) || stageName.includes(platform.architecture)) return;
      this.find('FromPlatformFlagConstDisallowed', `FROM --platform flag should not use constant value ${quoted(wanted)}`, location);
    } else if (/^\$(?:TARGETPLATFORM|\{TARGETPLATFORM\})$/.test(written)) {
      const text = `Setting platform to predefined ${written} in FROM is redundant as this is the default behavior`;
      this.find('RedundantTargetPlatform', text, location);
    }
  }

  private checkBase(name: string, actual: Platform, location: Location): void {
    const expected = this.subject.platform;
    if (actual.os === expected.os && actual.architecture === expected.architecture) return;
    const shown = [formatPlatform(actual), formatPlatform(expected)].map(quoted);
    this.find(
      'InvalidBaseImagePlatform',
      `Base image ${name} was pulled with platform ${shown[0]}, expected ${shown[1]} for current build`,
      location,
    );
  }

  private checkVariables(instruction: Instruction, environment: ReadonlySet<string>, args: ReadonlySet<string>): void {
    const values = new RecordingVariables((name) => (environment.has(name) || args.has(name) ? 'value' : undefined));
    try {
      for (const word of expandedWords(instruction)) expand(word, values, this.escapeToken);
    } catch {
      // What cannot be expanded fails the build in words of its own.
    }
    for (const name of values.missing) {
      if (this.hasEnough) break;
      this.find('UndefinedVar', `Usage of undefined variable '$${name}'${suggested(name, environment)}`, instruction.location);
    }
  }

  /** Of several only the last has an effect: the one before is told. */
  private checkOnce(instruction: Instruction, last: Map<string, Instruction>): void {
    const before = last.get(instruction.kind);
    last.set(instruction.kind, instruction);
    if (before === undefined) return;
    const text = `Multiple ${commandOf(instruction)} instructions should not be used in the same stage because only the last one will be used`;
    this.find('MultipleInstructionsDisallowed', text, before.location);
  }

  private checkSecrets(command: string, names: readonly string[], location: Location): void {
    for (const name of names.filter((each) => secretName.test(each) && !harmlessName.test(each))) {
      this.find('SecretsUsedInArgOrEnv', `Do not use ARG or ENV instructions for sensitive data (${command} ${quoted(name)})`, location);
    }
  }

  /** What the context has not got. A variable may stand for anything. */
  private checkSources(instruction: Copy | Add): void {
    if (!this.subject.counts('CopyIgnoredFile') || (instruction.kind === 'copy' && instruction.from !== undefined)) return;
    const verb = instruction.kind === 'copy' ? 'Copy' : 'Add';
    for (const source of instruction.sources) {
      if (this.hasEnough) return;
      if (source.includes('$') || isUrl(source) || parseGitSource(source) !== undefined) continue;
      const path = source === '/' ? source : normalize(source).replace(/\/$/, '');
      if (!this.subject.isIgnored(path)) continue;
      this.find('CopyIgnoredFile', `Attempting to ${verb} file ${quoted(path)} that is excluded by .dockerignore`, instruction.location);
    }
  }

  private checkPort(port: string, location: Location): void {
    const [, protocol = ''] = /\/([a-z]+)$/i.exec(port) ?? [];
    if (!isLower(protocol))
      this.find('ExposeProtoCasing', `Defined protocol '${port}' in EXPOSE instruction should be lowercase`, location);
    if (/^[^$]*:[^$]*$/.test(port)) {
      const text = `EXPOSE instruction should not define an IP address or host-port mapping, found '${port}'`;
      this.find('ExposeInvalidFormat', text, location);
    }
  }
}

/** What cannot be expanded fails the build in words of its own. */
function ifExpanded<T>(expanded: () => T): T | undefined {
  try {
    return expanded();
  } catch {
    return undefined;
  }
}

/** The words in which a build replaces variables. */
function expandedWords(instruction: Instruction): readonly string[] {
  switch (instruction.kind) {
    case 'env':
    case 'label':
      return instruction.pairs.flatMap(({ key, value }) => [key, value]);
    case 'arg':
      return instruction.args.flatMap(({ value }) => value ?? []);
    case 'copy':
    case 'add':
      return [...instruction.sources, instruction.destination, ...[instruction.chown, instruction.chmod].flatMap((each) => each ?? [])];
    case 'run':
      return instruction.mounts.flatMap(({ options }) => options.flatMap(({ value }) => value ?? []));
    case 'workdir':
      return [instruction.path];
    case 'user':
      return [instruction.user];
    case 'volume':
      return instruction.paths;
    case 'expose':
      return instruction.ports;
    case 'stopsignal':
      return [instruction.signal];
    default:
      return [];
  }
}

/** The instruction's name as it is written. */
function commandOf({ original }: { readonly original: string }): string {
  return /^\S*/.exec(original)?.[0] ?? '';
}

function namesOf({ args }: Arg): string[] {
  return args.map(({ name }) => name);
}

function suggested(name: string, environment: ReadonlySet<string>): string {
  return didYouMean(name, environment).replace('(did you mean ', '(did you mean $');
}

function isLower(text: string): boolean {
  return text === text.toLowerCase();
}

function isUpper(text: string): boolean {
  return text === text.toUpperCase();
}

function isImageName(name: string): boolean {
  try {
    parseReference(name);
    return true;
  } catch {
    return false;
  }
}

function platformOf(text: string): Platform | undefined {
  try {
    return parsePlatform(text);
  } catch {
    return undefined;
  }
}
