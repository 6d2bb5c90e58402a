/** Settings of image-service, beside those of every service. */
import { address, type ServiceSettings, serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';

export interface ImageServiceSettings extends ServiceSettings {
  /**
   * Address of a Distribution API to use instead of the registry-proxy that discovery finds: `unix:/path` or `host:port`. For tests, and for a
   * registry-proxy that is not in the stack.
   */
  readonly FLOTILLA_REGISTRY_ADDRESS: string;
  /** Bytes that one layer may unpack to; default 64 GiB. The space left on the disk bounds it too. */
  readonly FLOTILLA_MAX_LAYER_BYTES: number;
}

export const settingsSchema: z.ZodType<ImageServiceSettings> = z.object({
  ...serviceSettings,
  FLOTILLA_REGISTRY_ADDRESS: address.or(z.literal('')).default(''),
  FLOTILLA_MAX_LAYER_BYTES: z.coerce
    .number()
    .int()
    .positive()
    .default(64 * 1024 ** 3),
});
