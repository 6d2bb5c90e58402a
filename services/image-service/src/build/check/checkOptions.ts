/** `# check=skip=A,B;error=true`, or the argument BUILDKIT_DOCKERFILE_CHECK: which rules count, and whether they end a build. */
import { goBoolean, notGoBoolean } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import { type RuleName, rules } from './rules.ts';

export interface CheckOptions {
  readonly counts: (rule: RuleName) => boolean;
  /** A finding is an error. */
  readonly isStrict: boolean;
}

/** @throws InvalidParameter in BuildKit's words. */
export function readCheckOptions(text: string | undefined): CheckOptions {
  const said = new Map(
    (text ?? '')
      .split(';')
      .filter((part) => part.trim() !== '')
      .map(readOption),
  );
  const skipped = said.get('skip');
  const tried = said.get('experimental');
  return {
    counts: (rule) => (rules[rule].isExperimental === true ? has(tried, rule) : !has(skipped, rule)),
    isStrict: readFlag(said.get('error')),
  };
}

function readOption(part: string): readonly [string, string] {
  const [, key = '', value] = /^([^=]*)=([\s\S]*)$/.exec(part) ?? [];
  const name = key.trim();
  if (value === undefined || !['skip', 'error', 'experimental'].includes(name))
    throw new InvalidParameter(`invalid check option ${JSON.stringify(value === undefined ? part : name)}`);
  return [name, value.trim()];
}

/** `all`, or names with commas between. */
function has(names: string | undefined, rule: RuleName): boolean {
  return names === 'all' || (names ?? '').split(',').some((name) => name.trim() === rule);
}

function readFlag(value: string | undefined): boolean {
  const parsed = value === undefined ? false : goBoolean(value);
  if (parsed !== undefined) return parsed;
  throw new InvalidParameter(`failed to parse check option ${JSON.stringify(`error=${value}`)}: ${notGoBoolean(value ?? '')}`);
}
