import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { Paths } from './paths.ts';
import { showLogs } from './shownLogs.ts';

const root = mkdtempSync(join(tmpdir(), 'flotilla-shown-logs-'));
const paths = new Paths(root, '/nowhere');
const link = join(root, 'containers');
afterEach(() => rmSync(root, { recursive: true }));

test('a log is told of, and found, where dockerd would have it', () => {
  showLogs(paths);
  // The next start finds the link there.
  const shown = showLogs(paths);
  mkdirSync(paths.containerDirectory('a'), { recursive: true });
  writeFileSync(paths.log('a'), 'its log');
  expect(shown(paths.log('a'))).toBe(join(link, 'a/a.log'));
  expect(readFileSync(shown(paths.log('a')), 'utf8')).toBe('its log');
  expect(shown('')).toBe('');
});

test('what somebody else has there is left alone', () => {
  mkdirSync(link, { recursive: true });
  expect(showLogs(paths)(paths.log('a'))).toBe(paths.log('a'));
});
