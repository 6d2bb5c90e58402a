/** The settings of container-service: those of every service; the rest are the operator's engine options. */
import { serviceSettings } from '@flotilla/service-kit';
import { z } from 'zod';

export const settingsSchema = z.object(serviceSettings);
export type Settings = z.output<typeof settingsSchema>;
