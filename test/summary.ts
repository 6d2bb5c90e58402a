/**
 * The last line of `npm test`: adds up what check.sh and the vitest projects left in a directory, names what failed, and exits
 * non-zero when something did or nothing ran.
 *
 *   check.txt          `passed NAME` or `failed NAME`, a line a step
 *   PROJECT.json       vitest's JSON report        PROJECT.status   its exit code
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message?: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

const directory = process.argv[2] ?? '.cache/test-results';
let passed = 0;
let skipped = 0;
const failures: string[] = [];

for (const line of readText('check.txt').split('\n').filter(Boolean)) {
  if (line.startsWith('passed ')) passed += 1;
  else failures.push(`check: ${line.slice('failed '.length)}`);
}

for (const project of ['unit', 'integration', 'e2e', 'timed']) {
  const text = readText(`${project}.json`);
  if (text === '') {
    failures.push(`${project}: no results; vitest did not get to its end`);
    continue;
  }
  const before = failures.length;
  for (const file of (JSON.parse(text) as VitestReport).testResults) {
    const name = relative(process.cwd(), file.name);
    for (const test of file.assertionResults) {
      if (test.status === 'passed') passed += 1;
      else if (test.status === 'failed') failures.push(`${name}: ${test.fullName}`);
      else skipped += 1;
    }
    // A file that could not be loaded, or whose hooks failed, may have no failed test in it.
    if (file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'))
      failures.push(`${name}: ${file.message?.split('\n')[0] ?? 'failed'}`);
  }
  // An error outside every test, such as a promise nobody waited for, shows in the exit code alone.
  if (readText(`${project}.status`).trim() !== '0' && failures.length === before)
    failures.push(`${project}: vitest ended with an error outside the tests`);
}

for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
process.stdout.write(`${passed} passed, ${failures.length} failed, ${skipped} skipped\n`);
process.exitCode = passed === 0 || failures.length > 0 ? 1 : 0;

function readText(name: string): string {
  const path = join(directory, name);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}
