/** The health check of one process in a container of its own: `healthy.ts EXEC_ROOT PROCESS`. It loads little: it is started again and again. */
import { readFileSync } from 'node:fs';
import { openProber } from '../supervisor/probe.ts';
import { instanceFile, readStartFile, startFilePath } from './startFile.ts';

const answersWithinMs = 5_000;

const [execRoot = '', name = ''] = process.argv.slice(2);
const path = startFilePath(execRoot, name);
const start = readStartFile(path);
if (start === undefined) throw new Error(`${path} is not there`);
const prober = openProber(start.probe, readFileSync(instanceFile, 'utf8'));
const { healthy, reason } = await prober.ask(answersWithinMs);
prober.close();
if (!healthy) throw new Error(reason);
