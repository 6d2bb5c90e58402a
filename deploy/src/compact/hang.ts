/** Nobody asks a compact stack's process for its health from outside: it has the kernel end it when its loop does not turn, and its keeper starts it again. */
import { setAlarm } from '@flotilla/syscalls';

/** As long as a supervisor waits for a process that is busy and says nothing. */
const hungAfterSeconds = 30;

/** Ends this process by SIGALRM once its event loop has not turned for so many seconds. */
export function endWhenHung(seconds: number = hungAfterSeconds): void {
  setAlarm(seconds);
  setInterval(() => setAlarm(seconds), seconds * 100).unref();
}
