/** Settings of container-service, beside those of every service. */
import { type ServiceSettings, serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';

export interface ContainerServiceSettings extends ServiceSettings {
  /**
   * The control group, from the root of each hierarchy, that monitors are put into: where this service is itself a container, whoever ends it ends all that is
   * in its group. Empty: they stay in this service's.
   */
  readonly FLOTILLA_MONITOR_CGROUP: string;
  /** `1`: this service's root file system is an image's and not the host's; binds of what is in it are refused. */
  readonly FLOTILLA_ROOT_IS_OWN: boolean;
}

export const settingsSchema: z.ZodType<ContainerServiceSettings> = z.object({
  ...serviceSettings,
  FLOTILLA_MONITOR_CGROUP: z.string().startsWith('/').or(z.literal('')).default(''),
  FLOTILLA_ROOT_IS_OWN: z
    .enum(['', '0', '1'])
    .default('')
    .transform((text) => text === '1'),
});
