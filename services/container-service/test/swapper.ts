/** A thread that lets two names change places as fast as it can, until it is ended. */
import { parentPort, workerData } from 'node:worker_threads';
import { exchange } from '@flotilla/syscalls';

const [one, other] = workerData as [string, string];
exchange(one, other);
parentPort?.postMessage('swapping');
for (;;) exchange(one, other);
