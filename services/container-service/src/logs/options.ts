/** What HostConfig.LogConfig says about a log: how large it may grow and what `--details` shows. */
import { goBoolean, type LogConfig, notGoBoolean } from '@flotilla/engine-api';
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import { type RegularExpression, regularExpression } from '@flotilla/service-kit/regularExpression';

export interface LogLimits {
  /** bytes of one file */
  readonly maxSizeBytes: number;
  /** files kept, the one being written among them */
  readonly maxFiles: number;
  /** whether rotated files are compressed: json-file's are where it is said, local's unless it is said */
  readonly compress: boolean;
}

/** dockerd sets no limit for json-file, and disks fill up: ours is the one its `local` driver has. */
const defaultLimits: Omit<LogLimits, 'compress'> = { maxSizeBytes: 20 * 1024 * 1024, maxFiles: 5 };

/** The drivers Flotilla has. json-file and local are both conmon's file; none keeps nothing. */
export const logDrivers = ['json-file', 'local', 'none'] as const;

const detailOptions = ['labels', 'labels-regex', 'env', 'env-regex'];
const knownOptions: Record<string, readonly string[]> = {
  'json-file': ['max-size', 'max-file', 'compress', 'tag', ...detailOptions],
  local: ['max-size', 'max-file', 'compress'],
  none: [],
};
/** Options the engine itself takes for every driver. */
const deliveryOptions = ['mode', 'max-buffer-size'];

/**
 * Checks a log configuration as dockerd does at create.
 *
 * @throws InvalidParameter for another driver, an unknown option or a value that cannot be.
 */
export function checkLogConfig(config: LogConfig): void {
  const driver = config.Type ?? '';
  const known = knownOptions[driver];
  if (known === undefined) throw new InvalidParameter(`logger: no log driver named '${driver}' is registered`);
  const options = config.Config ?? {};
  const mode = options.mode;
  if (mode !== undefined && mode !== '' && mode !== 'blocking' && mode !== 'non-blocking') {
    throw new InvalidParameter(`logger: logging mode not supported: ${mode}`);
  }
  if (options['max-buffer-size'] !== undefined) {
    if (mode !== 'non-blocking') {
      throw new InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    }
    parseSize(options['max-buffer-size'], 'max-buffer-size');
  }
  if (config.Type === 'none') return;
  for (const name of Object.keys(options)) {
    if (!known.includes(name) && !deliveryOptions.includes(name)) {
      throw new InvalidParameter(`unknown log opt '${name}' for ${driver} log driver`);
    }
  }
  logLimits(config);
  for (const name of ['labels-regex', 'env-regex']) nameExpression(options[name]);
  const compress = options.compress;
  if (compress !== undefined && goBoolean(compress) === undefined) throw new InvalidParameter(notGoBoolean(compress));
  if (config.Type === 'json-file' && goBoolean(compress ?? '') === true) {
    if (options['max-size'] === undefined || Number(options['max-file'] ?? '1') < 2) {
      throw new InvalidParameter('compress cannot be true when max-file is less than 2 or max-size is not set');
    }
  }
}

/** How large a log may grow. A size without a number of files keeps one file, as json-file does. */
export function logLimits(config: LogConfig): LogLimits {
  const options = config.Config ?? {};
  const size = options['max-size'];
  const files = options['max-file'];
  let maxFiles = size !== undefined && config.Type === 'json-file' ? 1 : defaultLimits.maxFiles;
  if (files !== undefined) {
    if (!/^[+-]?\d+$/.test(files)) throw new InvalidParameter(`strconv.Atoi: parsing ${JSON.stringify(files)}: invalid syntax`);
    maxFiles = Number(files);
    if (maxFiles < 1) throw new InvalidParameter('max-file cannot be less than 1');
  }
  const compress = goBoolean(options.compress ?? String(config.Type === 'local')) === true;
  // dockerd's -1, without limit, is asked for by name.
  if (size === '-1') return { maxSizeBytes: Number.MAX_SAFE_INTEGER, maxFiles, compress };
  return { maxSizeBytes: size === undefined ? defaultLimits.maxSizeBytes : parseSize(size, 'max-size'), maxFiles, compress };
}

/** What stands before each line with `--details`: the labels and variables the log's options name. */
export function logDetails(
  config: LogConfig,
  labels: Record<string, string> | null | undefined,
  env: readonly string[] | null | undefined,
): string {
  const options = config.Config ?? {};
  const details = new Map<string, string>();
  const take = (values: Iterable<readonly [string, string]>, names: string | undefined, pattern: string | undefined): void => {
    const wanted = new Set((names ?? '').split(',').filter((name) => name !== ''));
    const expression = nameExpression(pattern);
    for (const [name, value] of values) if (wanted.has(name) || expression?.test(name)) details.set(name, value);
  };
  take(Object.entries(labels ?? {}), options.labels, options['labels-regex']);
  const variables = (env ?? []).map((entry) => {
    const at = entry.indexOf('=');
    return at < 0 ? ([entry, ''] as const) : ([entry.slice(0, at), entry.slice(at + 1)] as const);
  });
  take(variables, options.env, options['env-regex']);
  if (details.size === 0) return ' ';
  const pairs = [...details].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => `${escapeQuery(name)}=${escapeQuery(value)}`);
  return `${pairs.join(',')} `;
}

function nameExpression(pattern: string | undefined): RegularExpression | undefined {
  if (pattern === undefined || pattern === '') return undefined;
  try {
    return regularExpression(pattern);
  } catch (error) {
    throw new InvalidParameter(errorMessage(error), { cause: error });
  }
}

/** Go's url.QueryEscape. */
function escapeQuery(text: string): string {
  return encodeURIComponent(text)
    .replaceAll('%20', '+')
    .replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** A size as docker's options write it: `10m`, `1g`, `512k`, bytes without a unit. */
function parseSize(text: string, option: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text.trim());
  const [, number = '', unit = ''] = match ?? [];
  const bytes = Math.floor(Number(number) * 1024 ** 'kmgtp'.indexOf(unit.toLowerCase() || 'k') * (unit === '' ? 1 : 1024));
  if (match === null || bytes <= 0) throw new InvalidParameter(`invalid value for ${option}: ${text}`);
  return bytes;
}
