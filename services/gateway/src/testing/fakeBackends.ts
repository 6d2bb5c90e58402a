/** Services that answer everything with something empty, and remember what they were asked: for tests of the routes. */
import { ContainersService, ExecsService } from '@flotilla/contracts/flotilla/container/v1/containers';
import { BuildKitService } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { BuildsService } from '@flotilla/contracts/flotilla/image/v1/builds';
import { ImagesService } from '@flotilla/contracts/flotilla/image/v1/images';
import { NetworksService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import type { Calls, Definition } from '@flotilla/service-kit';
import type { TicketServer } from '@flotilla/streams';
import type { Backends } from '../backends.ts';

export interface FakeCall {
  /** `containers.list` */
  readonly method: string;
  readonly request: unknown;
}

/** JSON fields that hold lists. */
const lists = new Set([
  'containersJson',
  'imagesJson',
  'historyJson',
  'networksJson',
  'volumesJson',
  'itemsJson',
  'resultsJson',
  'recordsJson',
]);

export class FakeBackends implements Backends {
  readonly calls: FakeCall[] = [];
  /** What a method answers instead, by `containers.list`; a function throws or returns (an array for streams). */
  readonly answers = new Map<string, (request: unknown) => unknown>();
  private readonly tickets: TicketServer | undefined;

  constructor(tickets?: TicketServer) {
    this.tickets = tickets;
  }

  readonly containers: Backends['containers'] = this.fake('containers', ContainersService);
  readonly execs: Backends['execs'] = this.fake('execs', ExecsService);
  readonly images: Backends['images'] = this.fake('images', ImagesService);
  readonly builds: Backends['builds'] = this.fake('builds', BuildsService);
  readonly buildkit: Backends['buildkit'] = this.fake('buildkit', BuildKitService);
  readonly networks: Backends['networks'] = this.fake('networks', NetworksService);
  readonly volumes: Backends['volumes'] = this.fake('volumes', VolumesService);
  readonly registries: Backends['registries'] = this.fake('registries', RegistriesService);

  /** The request of the last call of a method. */
  last(method: string): unknown {
    return this.calls.findLast((call) => call.method === method)?.request;
  }

  private fake<D extends Definition>(service: string, definition: D): Calls<D> {
    const calls: Record<string, unknown> = {};
    for (const [name, method] of Object.entries(definition)) {
      const key = `${service}.${name}`;
      const answer = (request: unknown): unknown => {
        // What cannot be put on the wire would fail there: fail here too.
        method.requestSerialize(request);
        this.calls.push({ method: key, request });
        const made = this.answers.get(key);
        return made === undefined ? this.empty(method.responseDeserialize(Buffer.alloc(0)) as object) : made(request);
      };
      calls[name] = method.responseStream
        ? async function* (request: unknown) {
            const given = answer(request);
            yield* Array.isArray(given) ? given : [given];
          }
        : async (request: unknown) => answer(request);
    }
    return calls as Calls<D>;
  }

  private empty(message: object): object {
    const fields = Object.keys(message).map((key) => {
      if (key === 'ticket') return [key, this.tickets?.issue(async (stream) => void stream.end('{}\n'))];
      if (key === 'result') return [key, { exitCode: 0, error: '' }];
      if (key.endsWith('Json')) return [key, Buffer.from(lists.has(key) ? '[]' : '{}')];
      if (key === 'json') return [key, Buffer.from('{}')];
      return [key, (message as Record<string, unknown>)[key]];
    });
    return Object.fromEntries(fields);
  }
}
