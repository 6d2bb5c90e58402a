/**
 * The order of test files: those known to take longest first, then by size, as vitest orders what it has no times of. A file of a minute and a half that began
 * last would run alone to its end, with half of the machine idle.
 */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Longest first; a file takes its place here when it takes more than about a minute. */
const longest = ['upgrade', 'nested', 'compact', 'scale', 'commands', 'loss'].map((name) => `/test/e2e/${name}.test.ts`);

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = longest.findIndex((name) => moduleId.endsWith(name));
      return place < 0 ? longest.length : place;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}
