import { shortId } from '@flotilla/engine-api';
/** Names of an overlay network's interfaces. */

export function overlayBridge(id: string): string {
  return `ov-${shortId(id)}`;
}

export function tunnelName(bridge: string): string {
  return bridge.replace(/^ov-/, 'vx-');
}
