export { Collection } from './collection.ts';
export { connectRedis, type RecordConnection } from './connection.ts';
export { EventRelay } from './eventRelay.ts';
export type { Lease } from './leases.ts';
export { openRecords } from './openRecords.ts';
export { type Commit, type DomainEvent, RecordStore, type StoreOptions } from './store.ts';
