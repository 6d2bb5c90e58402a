/** The checks of a Dockerfile as clients hear of them: warnings of a build, or the answer to a question. */
import { errorMessage, InvalidParameter, isInvalidParameter, isNotFound } from '@flotilla/errors';
import { hostPlatform } from '@flotilla/oci';
import { type BaseFacts, check, type Finding } from '../build/check/check.ts';
import { type CheckOptions, readCheckOptions } from '../build/check/checkOptions.ts';
import { rules, ruleUrl } from '../build/check/rules.ts';
import { ignoredSources } from '../build/context/dockerignore.ts';
import type { BuildContext } from '../build/context/open.ts';
import type { Dockerfile, Stage } from '../build/dockerfile/instructions.ts';
import { parseDockerfile } from '../build/dockerfile/parse.ts';
import { neededStages, type StageNames } from '../build/dockerfile/stageGraph.ts';
import { locationOf } from '../build/errorSource.ts';
import { canonicalName } from '../build/namedContexts.ts';
import type { BuildOptions } from '../build/options.ts';
import { outlineOf, targetsOf } from '../build/outline.ts';
import { targetStage } from '../build/plan.ts';
import { platformArguments } from '../build/platformArguments.ts';
import type { ImageStore } from '../imageStore.ts';
import { imagePlatform } from '../inspect.ts';
import type { VertexHandle } from './progress.ts';
import type { SourceText } from './sourceText.ts';
import { type Answer, checkAnswer, outlineAnswer, type Question, targetsAnswer } from './subrequests.ts';

/** Each warning carries the Dockerfile, and clients take 16 MiB in one message. */
const mostSourceBytes = 8 * 1024 * 1024;

interface CheckedBuild {
  readonly options: BuildOptions;
  /** Contexts that the client names. */
  readonly contexts: ReadonlyMap<string, string>;
  readonly store: ImageStore;
}

/** What is checked, beside the Dockerfile: what a build keeps back of its context, as its .dockerignore says it. */
type Ignored = Pick<BuildContext, 'ignoreText'>;

/** The warnings of one build: told when its base images are known, or when it fails before. */
export class BuildChecks {
  private readonly build: CheckedBuild;
  private source: { readonly text: SourceText; readonly definition: VertexHandle } | undefined;
  private dockerfile: Dockerfile | undefined;
  private ignored: Ignored = {};

  constructor(build: CheckedBuild) {
    this.build = build;
  }

  found(text: SourceText, definition: VertexHandle): void {
    this.source = { text, definition };
  }

  /** @throws InvalidParameter when findings are errors here. */
  begin(dockerfile: Dockerfile, ignored: Ignored): void {
    this.dockerfile = dockerfile;
    this.ignored = ignored;
    const options = checkOptions(dockerfile, this.build.options);
    if (!options.isStrict) return;
    const broken = new Set(findings(dockerfile, options, this.build, ignored).map(({ rule }) => rule));
    if (broken.size > 0) throw new InvalidParameter(`lint violation found for rules: ${[...broken].sort().join(', ')}`);
  }

  /** Once. */
  tell(): void {
    const { source, dockerfile } = this;
    if (source === undefined || dockerfile === undefined) return;
    this.dockerfile = undefined;
    const { bytes } = source.text;
    const most = Math.floor(mostSourceBytes / Math.max(1, bytes.length));
    for (const { rule, text, location } of this.readable(dockerfile).slice(0, most)) {
      const short = `${rule}: ${text} (line ${location.startLine})`;
      source.definition.warn(short, source.text, { location, detail: rules[rule].description, url: ruleUrl(rule) });
    }
  }

  /** A Dockerfile that cannot be followed fails the build in words of its own, and has no findings. */
  private readable(dockerfile: Dockerfile): Finding[] {
    try {
      return findings(dockerfile, checkOptions(dockerfile, this.build.options), this.build, this.ignored);
    } catch (error) {
      if (isInvalidParameter(error)) return [];
      throw error;
    }
  }
}

/** @throws InvalidParameter for a Dockerfile that cannot be read, where it is not the question whether it can. */
export function answerAbout(
  question: Exclude<Question, 'frontend.subrequests.describe'>,
  source: SourceText,
  build: CheckedBuild,
  ignored: Ignored,
): Answer {
  if (question === 'frontend.lint') return checkedAnswer(source, build, ignored);
  const dockerfile = parseDockerfile(source.text);
  if (question === 'frontend.targets') return targetsAnswer(targetsOf(dockerfile), source);
  return outlineAnswer(outlineOf(dockerfile, targetStage(dockerfile.stages, build.options.target), namesFor(build)), source);
}

function checkedAnswer(source: SourceText, build: CheckedBuild, ignored: Ignored): Answer {
  try {
    const dockerfile = parseDockerfile(source.text);
    return checkAnswer(findings(dockerfile, checkOptions(dockerfile, build.options), build, ignored), source, undefined);
  } catch (error) {
    return checkAnswer([], source, { message: errorMessage(error), location: locationOf(error) });
  }
}

function checkOptions({ directives }: Dockerfile, { buildArgs }: BuildOptions): CheckOptions {
  return readCheckOptions(buildArgs.get('BUILDKIT_DOCKERFILE_CHECK') ?? directives.check);
}

function findings(dockerfile: Dockerfile, { counts }: CheckOptions, build: CheckedBuild, { ignoreText = '' }: Ignored): Finding[] {
  const { options, store } = build;
  const names = namesFor(build);
  const target = targetStage(dockerfile.stages, options.target);
  const needed: Stage[] = neededStages(dockerfile, dockerfile.stages.slice(0, target.index + 1), names);
  const platform = options.platform ?? hostPlatform();
  const baseFacts = (name: string): BaseFacts | undefined => (names.isContext(name) ? undefined : factsOf(store, name));
  const isIgnored = ignoredSources(ignoreText);
  return check({ dockerfile, needed, buildArgs: options.buildArgs, globals: names.globals, platform, baseFacts, isIgnored, counts });
}

function namesFor({ options, contexts }: CheckedBuild): StageNames {
  const known = new Set([...contexts.keys()].map(canonicalName));
  return {
    buildArgs: options.buildArgs,
    globals: platformArguments(options.platform ?? hostPlatform(), options.target),
    isContext: (name) => known.size > 0 && known.has(canonicalName(name)),
  };
}

/** Of an image that is here. */
function factsOf(store: ImageStore, name: string): BaseFacts | undefined {
  try {
    const image = store.find(name);
    const { Env = [], Shell = [] } = image.config.config;
    return { environment: Env ?? [], hasShell: (Shell ?? []).length > 0, platform: imagePlatform(image) };
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
