/** What container-service asks of the other services: their contracts, as far as it uses them. */
import type { ImagesService, SnapshotsService } from '@flotilla/contracts/flotilla/image/v1/images';
import type { SandboxesService } from '@flotilla/contracts/flotilla/network/v1/networks';
import type { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import type { Calls } from '@flotilla/service-kit';

export interface Neighbours {
  readonly images: Pick<Calls<typeof ImagesService>, 'resolve' | 'commit'>;
  readonly snapshots: Calls<typeof SnapshotsService>;
  readonly sandboxes: Calls<typeof SandboxesService>;
  readonly volumes: Pick<Calls<typeof VolumesService>, 'acquire' | 'release' | 'mount' | 'unmount' | 'populate' | 'retain' | 'listUses'>;
}

/** Documents of the Engine API travel as JSON bytes. */
export function toJson(document: unknown): Buffer {
  return Buffer.from(JSON.stringify(document));
}

/** Reads a document that a service of ours wrote: its shape is the contract's. */
export function fromJson<T>(bytes: Uint8Array): T | undefined {
  return bytes.length === 0 ? undefined : (JSON.parse(Buffer.from(bytes).toString('utf8')) as T);
}
