/** SIGHUP: the operator's files are read again. */
import type { Lifecycle } from '@flotilla/service-kit';

export function followHangup(lifecycle: Lifecycle, reload: () => void): void {
  process.on('SIGHUP', reload);
  lifecycle.onStop('SIGHUP', () => void process.off('SIGHUP', reload));
}
