/** The services the gateway calls. Routes see these and nothing else of the inside. */
import { ContainersService, ExecsService } from '@flotilla/contracts/flotilla/container/v1/containers';
import { BuildKitService } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { BuildsService } from '@flotilla/contracts/flotilla/image/v1/builds';
import { ImagesService } from '@flotilla/contracts/flotilla/image/v1/images';
import { NetworksService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { type Calls, type Discovery, serviceCalls } from '@flotilla/service-kit';

export interface Backends {
  readonly containers: Calls<typeof ContainersService>;
  readonly execs: Calls<typeof ExecsService>;
  readonly images: Calls<typeof ImagesService>;
  readonly builds: Calls<typeof BuildsService>;
  readonly buildkit: Calls<typeof BuildKitService>;
  readonly networks: Calls<typeof NetworksService>;
  readonly volumes: Calls<typeof VolumesService>;
  readonly registries: Calls<typeof RegistriesService>;
}

export function connectBackends(discovery: Discovery): Backends {
  return {
    containers: serviceCalls(ContainersService, 'container-service', discovery),
    execs: serviceCalls(ExecsService, 'container-service', discovery),
    images: serviceCalls(ImagesService, 'image-service', discovery),
    builds: serviceCalls(BuildsService, 'image-service', discovery),
    buildkit: serviceCalls(BuildKitService, 'image-service', discovery),
    networks: serviceCalls(NetworksService, 'network-volume', discovery),
    volumes: serviceCalls(VolumesService, 'network-volume', discovery),
    registries: serviceCalls(RegistriesService, 'registry-proxy', discovery),
  };
}

/** A read: may be repeated on another instance. */
export const read = { idempotent: true } as const;
/** An act that may take long: unpacking, unmounting, many objects. */
export const long = { deadlineMs: 15 * 60_000 } as const;
/** An act that takes as long as its caller said (`stop -t`), maybe for ever: ten days, well within what a timer holds. */
export const unbounded = { deadlineMs: 10 * 24 * 3600 * 1000 } as const;
