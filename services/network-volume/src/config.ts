/** The settings of network-volume beside those of every service. */
import { serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';

export const settingsSchema = z.object({
  ...serviceSettings,
  /** Network namespaces kept ready for starts. Each costs about 100 kB of kernel memory; more help bursts of starts. */
  FLOTILLA_SANDBOX_POOL: z.coerce.number().int().min(0).max(256).default(16),
  /** The nftables table of this stack, and its tag in firewalls of others. Stacks that share a network namespace need one each. */
  FLOTILLA_FIREWALL_TABLE: z
    .string()
    .regex(/^[a-z][a-z0-9]{0,15}$/, 'must be at most 16 small letters and digits')
    .default('flotilla'),
  /** Where plugins are looked for, joined by colons. dockerd's folders. */
  FLOTILLA_PLUGIN_FOLDERS: z
    .string()
    .default('/run/docker/plugins:/etc/docker/plugins:/usr/lib/docker/plugins')
    .transform((text) => text.split(':').filter((folder) => folder !== '')),
});

export type Settings = z.output<typeof settingsSchema>;
