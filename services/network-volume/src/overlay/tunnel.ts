/** Names of an overlay network's interfaces. */
import { shortId } from '../ids.ts';

export function overlayBridge(id: string): string {
  return `ov-${shortId(id)}`;
}

export function tunnelName(bridge: string): string {
  return bridge.replace(/^ov-/, 'vx-');
}
