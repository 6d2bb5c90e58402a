/** SIGHUP: the operator's files are read again. */
import type { Lifecycle } from '@flotilla/service-kit';

export function followHangup(lifecycle: Lifecycle, proxy: { reload(): Promise<void> }): void {
  const onHangup = (): void => void proxy.reload();
  process.on('SIGHUP', onHangup);
  lifecycle.onStop('SIGHUP', () => void process.off('SIGHUP', onHangup));
}
