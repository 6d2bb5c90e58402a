/** The policy in force, read again when its file changes. A file that is wrong leaves the one before in force. */
import { readFileSync, watchFile } from 'node:fs';
import { errorMessage } from '@flotilla/errors';
import type { Logger } from '../logger.ts';
import { Policy } from './policy.ts';

const lookMs = 500;

export interface PolicySource {
  readonly current: Policy;
}

/** @throws InvalidParameter when the file is wrong at the start. */
export function followPolicy(path: string, logger: Logger): PolicySource {
  const source = { current: Policy.parse(readFileSync(path, 'utf8')) };
  watchFile(path, { interval: lookMs, persistent: false }, () => {
    try {
      source.current = Policy.parse(readFileSync(path, 'utf8'));
      logger.info('policy read again');
    } catch (error) {
      logger.error({ reason: errorMessage(error) }, 'the policy before stays in force');
    }
  });
  return source;
}
