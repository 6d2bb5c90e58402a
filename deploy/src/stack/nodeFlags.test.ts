import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { nodeCommand } from './processes.ts';

describe("the flags of a stack's Node", () => {
  it('leave valid what Node has compiled of its own modules', () => {
    const [program = '', ...args] = nodeCommand('/code', 'main.ts');
    const script = `
      const { internalBinding } = require('internal/test/binding');
      require('node:http2');
      console.log(internalBinding('builtins').getCacheUsage().compiledWithoutCache.size);`;
    const flags = args.filter((arg) => arg.startsWith('--'));
    expect(program).toBe('/code/node_modules/node/bin/node');
    const compiledAnew = execFileSync(process.execPath, [...flags, '--no-warnings', '--expose-internals', '--eval', script], {
      encoding: 'utf8',
    });
    expect(compiledAnew).toBe('0\n');
  });
});
