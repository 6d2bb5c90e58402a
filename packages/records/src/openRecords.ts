/** Opens a service's records with its kit, and starts the relay of their events. */
import { join } from 'node:path';
import type { ServiceKit, ServiceSettings } from '@flotilla/service-kit';
import { changeMarkBeside } from './changeMark.ts';
import { EventRelay } from './eventRelay.ts';
import { RecordStore } from './store.ts';

/** @param explained - the directories of the service whose entries only records explain. */
export async function openRecords(service: string, kit: ServiceKit<ServiceSettings>, explained: readonly string[]): Promise<RecordStore> {
  const { settings, logger, health, lifecycle, bus, discovery, workload } = kit;
  const store = await RecordStore.open({
    url: settings.FLOTILLA_REDIS_URL,
    user: settings.FLOTILLA_REDIS_USER,
    password: settings.FLOTILLA_REDIS_PASSWORD,
    tls: settings.FLOTILLA_REDIS_TLS,
    engineId: settings.FLOTILLA_ENGINE_ID,
    service,
    logger,
    health,
    lifecycle,
    ...(settings.FLOTILLA_GRPC_ADDRESS.startsWith('unix:') ? { changeMark: changeMarkBeside(settings.FLOTILLA_GRPC_ADDRESS) } : {}),
    copy: { directory: join(settings.FLOTILLA_DATA_ROOT, service), explained },
    alone: () => discovery.present(service).every((beat) => beat.instance === settings.FLOTILLA_INSTANCE),
  });
  workload.addHolder(() => store.heldLeases());
  new EventRelay({ store, bus, service, logger, lifecycle });
  return store;
}
