/** The gateway's settings. It needs no Redis: it holds no authoritative state. */
import { type ServiceSettings, serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';

export interface GatewaySettings extends ServiceSettings {
  /** How many listening sockets were passed, from descriptor 3 on (as systemd does it); empty: none. */
  readonly LISTEN_FDS: number;
  /** Their names, by colons: `unix`, `tcp` or `tls`, in the order of the descriptors. */
  readonly LISTEN_FDNAMES: string;
  /** Where to listen when no socket was passed: `unix:/path`, which replicas take over from one another (sharedSocket.ts), or `host:port`. */
  readonly FLOTILLA_LISTEN: string;
  /** Requests under way at once in one gateway, streams among them. */
  readonly FLOTILLA_MAX_REQUESTS: number;
}

export const gatewaySettings: z.ZodType<GatewaySettings> = z.object({
  ...serviceSettings,
  LISTEN_FDS: z.coerce.number().int().nonnegative().default(0),
  LISTEN_FDNAMES: z.string().default(''),
  FLOTILLA_LISTEN: z.string().default(''),
  FLOTILLA_MAX_REQUESTS: z.coerce.number().int().positive().default(20_000),
});
