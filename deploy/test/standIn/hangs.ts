/** Stands in for a process that has the kernel end it when it hangs for a second: `hangs.ts turn | block | spin`. `turn` has a child that outlives the bound, and ends with its exit code. */
import { spawn } from 'node:child_process';
import { endWhenHung } from '../../src/compact/hang.ts';

endWhenHung(1);
switch (process.argv[2]) {
  case 'turn':
    spawn('sleep', ['2.5']).on('exit', (code) => process.exit(code ?? 1));
    break;
  case 'block':
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    break;
  case 'spin':
    for (;;);
}
