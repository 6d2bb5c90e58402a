/** The settings of network-volume beside those of every service. */
import { serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';

export const settingsSchema = z.object({
  ...serviceSettings,
  /** Network namespaces kept ready for starts. Each costs about 100 kB of kernel memory; more help bursts of starts. */
  FLOTILLA_SANDBOX_POOL: z.coerce.number().int().min(0).max(256).default(16),
  /** Where plugins are looked for, joined by colons. dockerd's folders. */
  FLOTILLA_PLUGIN_FOLDERS: z
    .string()
    .default('/run/docker/plugins:/etc/docker/plugins:/usr/lib/docker/plugins')
    .transform((text) => text.split(':').filter((folder) => folder !== '')),
});

export type Settings = z.output<typeof settingsSchema>;
