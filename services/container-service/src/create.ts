/** Creating a container: everything that can be refused is refused here, then its snapshot, volumes and record are made. */
import { mkdirSync, rmSync } from 'node:fs';
import {
  type ContainerConfig,
  type ContainerCreateRequest,
  DecodeError,
  decodeContainerCreate,
  type HostConfig,
  randomId,
  shortId,
} from '@flotilla/engine-api';
import { Conflict, errorMessage, InvalidParameter, isConflict, isNotFound } from '@flotilla/errors';
import { formatPlatform, hostPlatform, type ImageConfig, normalisePlatform, parseImageConfig, platformMatches } from '@flotilla/oci';
import type { Logger } from '@flotilla/service-kit';
import { formatNano, nowNano } from './clock.ts';
import { type ContainerRecord, initialState, type Snapshot, sharedContainer } from './container.ts';
import { Drafts } from './drafts.ts';
import { imageMountKeys, prepareImageMounts } from './imageMounts.ts';
import { resolvedLinks } from './links.ts';
import { findContainer, findIfThere } from './lookup.ts';
import { acquireVolumes, nameVolumes, populateVolumes } from './mounts.ts';
import { makeName, nameConflict, parseName } from './names.ts';
import type { Neighbours } from './neighbours.ts';
import type { Paths } from './paths.ts';
import type { RootFilesystems } from './rootFilesystems.ts';
import { sandboxSpec } from './sandboxSpec.ts';
import { type CreateContext, ensureWorkingDirectory, planMounts, validateCreate } from './spec/index.ts';
import { type ContainerStore, containerEvent } from './store.ts';

export interface CreatorOptions {
  readonly logger: Logger;
  readonly paths: Paths;
  readonly store: ContainerStore;
  readonly neighbours: Neighbours;
  readonly roots: RootFilesystems;
  readonly context: CreateContext;
  /** resolves when containers may be created: reconcile takes what has no record for a leftover. */
  readonly mayCreate: () => Promise<void>;
}

export interface CreateRequest {
  readonly name: string;
  readonly platform: string;
  /** the body of ContainerCreate. */
  readonly configJson: Uint8Array;
  readonly readOnlyBindsNonRecursive?: boolean | undefined;
}

type Undo = () => Promise<unknown> | unknown;

const mostNameAttempts = 100;

export class Creator {
  private readonly options: CreatorOptions;
  private readonly drafts: Drafts;

  constructor(options: CreatorOptions) {
    this.options = options;
    this.drafts = new Drafts(options.paths);
  }

  /**
   * @throws InvalidParameter for what cannot be; NotFound for an image, network or container that is not there; Conflict for a name that is taken.
   * @see Engine API v1.50 ContainerCreate
   */
  async create(request: CreateRequest): Promise<{ id: string; warnings: string[] }> {
    const { neighbours, context } = this.options;
    const body = decodeBody(request.configJson);
    const { HostConfig: askedHostConfig = {}, NetworkingConfig: networking = {}, ...askedConfig } = body;
    const name = request.name === '' ? undefined : parseName(request.name);
    if (name !== undefined) this.refuseTakenName(name);
    await this.options.mayCreate();
    const reference = askedConfig.Image ?? '';
    if (reference === '') throw new InvalidParameter('no command specified');
    const image = await neighbours.images.resolve(
      { image: reference, platform: request.platform, idOnly: false, withDescendants: false },
      { idempotent: true },
    );
    const imageConfig = parseImageConfig(image.configJson);
    const id = randomId();
    const { config, hostConfig, warnings } = validateCreate(
      {
        id,
        config: askedConfig,
        hostConfig: this.resolveReferences(askedHostConfig, name),
        networkingConfig: networking,
        image: imageConfig,
      },
      context,
    );
    const draft: Omit<ContainerRecord, 'name' | 'snapshot' | 'mounts'> = {
      id,
      created: formatNano(nowNano()),
      image: {
        id: image.id,
        reference,
        ...(image.manifestDescriptorJson.length === 0
          ? {}
          : { manifestDescriptor: JSON.parse(Buffer.from(image.manifestDescriptorJson).toString('utf8')) as unknown }),
      },
      platform: 'linux',
      config,
      ownLabels: askedConfig.Labels ?? {},
      hostConfig,
      endpoints: networking.EndpointsConfig ?? {},
      ...command(config),
      state: initialState,
      logPath: hostConfig.LogConfig?.Type === 'none' ? '' : this.options.paths.log(id),
      restartCount: 0,
      stoppedByUser: false,
    };
    const networkWarnings = await this.makeHoldings(draft, name, {
      readOnlyBindsNonRecursive: request.readOnlyBindsNonRecursive === true,
      // What an image names is there already.
      makesWorkingDirectory: config.WorkingDir !== imageConfig.config.WorkingDir,
    });
    this.drafts.end(id);
    const platformWarnings = request.platform === '' ? foreignPlatform(imageConfig) : [];
    return { id, warnings: [...warnings, ...platformWarnings, ...networkWarnings] };
  }

  private async makeHoldings(
    draft: Omit<ContainerRecord, 'name' | 'snapshot' | 'mounts'>,
    name: string | undefined,
    asked: { readonly readOnlyBindsNonRecursive: boolean; readonly makesWorkingDirectory: boolean },
  ): Promise<string[]> {
    const { neighbours, paths, roots } = this.options;
    const { id, config, hostConfig } = draft;
    const plans = nameVolumes(
      planMounts(
        config,
        hostConfig,
        (reference) => this.named(reference).mounts,
        this.options.context.dataRoot,
        asked.readOnlyBindsNonRecursive,
      ),
    );
    const undo: Undo[] = [];
    this.drafts.begin(
      id,
      plans.flatMap(({ type, name: volume, anonymous }) =>
        type === 'volume' && volume ? [{ name: volume, created: anonymous === true }] : [],
      ),
      imageMountKeys(id, plans),
    );
    try {
      const directory = paths.containerDirectory(id);
      mkdirSync(directory, { recursive: true, mode: 0o710 });
      undo.push(() => rmSync(directory, { recursive: true, force: true }));
      undo.push(() => neighbours.snapshots.remove({ key: id }, { idempotent: true }));
      const [prepared, warnings] = await Promise.all([
        neighbours.snapshots.prepare({ key: id, imageId: draft.image.id }, { idempotent: true }),
        this.checkSandbox({ ...draft, name: name ?? shortId(id) }),
      ]);
      if (prepared.mounts === undefined) throw new Error('image-service prepared a snapshot without mounts');
      const snapshot: Snapshot = prepared.mounts;
      const mounts = await acquireVolumes(id, plans, neighbours, ({ name: volume = '', anonymous = false }) => {
        undo.push(() => neighbours.volumes.release({ name: volume, user: id, removeAnonymous: anonymous }, { idempotent: true }));
      });
      const imageMounts = await prepareImageMounts(id, mounts, neighbours, (key) => {
        undo.push(() => neighbours.snapshots.remove({ key }, { idempotent: true }));
      });
      if (asked.makesWorkingDirectory && config.WorkingDir) {
        await roots.with(id, snapshot, async (root) => ensureWorkingDirectory(root, config.WorkingDir ?? ''));
      }
      await populateVolumes({ id, snapshot, mounts }, neighbours, roots);
      await this.save({ ...draft, snapshot, mounts, ...(Object.keys(imageMounts).length === 0 ? {} : { imageMounts }) }, name);
      return warnings;
    } catch (error) {
      await this.undo(id, undo);
      throw error;
    }
  }

  /** What cannot be undone now stays in the draft, which is looked at again (strayUses.ts). */
  private async undo(id: string, steps: readonly Undo[]): Promise<void> {
    let failed = false;
    for (const step of steps.toReversed()) {
      try {
        await step();
      } catch (error) {
        failed = true;
        this.options.logger.error({ containerId: id, error }, 'undoing a create failed');
      }
    }
    if (failed) this.drafts.abandon(id);
    else this.drafts.end(id);
  }

  /** Writes the record and its name in one commit; a made-up name that is taken is made anew. */
  private async save(draft: Omit<ContainerRecord, 'name'>, wanted: string | undefined): Promise<void> {
    const { store } = this.options;
    for (let attempt = 0; ; attempt++) {
      const name = wanted ?? makeName(attempt);
      const container: ContainerRecord = { ...draft, name };
      try {
        await store.commit({
          puts: [store.containers.put(draft.id, container, { create: true }), store.names.put(name, { id: draft.id }, { create: true })],
          events: [containerEvent(container, 'create')],
        });
        return;
      } catch (error) {
        if (!isConflict(error)) throw error;
        if (wanted !== undefined || attempt >= mostNameAttempts) {
          await store.fresh();
          this.refuseTakenName(name);
          throw error;
        }
      }
    }
  }

  private refuseTakenName(name: string): void {
    const holder = this.options.store.names.get(name);
    if (holder !== undefined) throw new Conflict(nameConflict(name, holder.id));
  }

  private async checkSandbox(container: Pick<ContainerRecord, 'id' | 'name' | 'config' | 'hostConfig' | 'endpoints'>): Promise<string[]> {
    if (sharedContainer(container.hostConfig.NetworkMode) !== undefined || asksNothingOfTheNetwork(container)) return [];
    const { store, neighbours } = this.options;
    const spec = sandboxSpec(container, (id) => store.containers.get(id));
    return (await neighbours.sandboxes.check({ spec }, { idempotent: true })).warnings;
  }

  /** `container:name` becomes `container:<id>`, and so do links: a later rename or reuse of the name changes nothing. */
  private resolveReferences(hostConfig: HostConfig, name: string | undefined): HostConfig {
    if (name !== undefined && sharedContainer(hostConfig.NetworkMode) === name) throw new InvalidParameter('cannot join own network');
    const resolve = (mode: string, find: (reference: string) => ContainerRecord | undefined): string => {
      const reference = sharedContainer(mode);
      const id = reference ? find(reference)?.id : undefined;
      return id === undefined ? mode : `container:${id}`;
    };
    const { NetworkMode: network, IpcMode: ipc, PidMode: pid } = hostConfig;
    return {
      ...hostConfig,
      // Whose network is joined may come later: that is seen at start.
      ...(network === undefined ? {} : { NetworkMode: resolve(network, (reference) => findIfThere(this.options.store, reference)) }),
      ...(ipc === undefined ? {} : { IpcMode: resolve(ipc, (reference) => this.named(reference)) }),
      ...(pid === undefined ? {} : { PidMode: resolve(pid, (reference) => this.named(reference)) }),
      ...(hostConfig.Links?.length
        ? { Links: resolvedLinks(hostConfig, (reference) => findContainer(this.options.store, reference)) }
        : {}),
    };
  }

  /** A container that another one's options name: that it is not there is a mistake in those, and no reason for a client to pull the image. */
  private named(reference: string): ContainerRecord {
    try {
      return findContainer(this.options.store, reference);
    } catch (error) {
      throw isNotFound(error) ? new InvalidParameter(errorMessage(error), { cause: error }) : error;
    }
  }
}

/** A plain container on a network that is always there: nothing that network-volume could refuse. */
function asksNothingOfTheNetwork({ config, hostConfig, endpoints }: Pick<ContainerRecord, 'config' | 'hostConfig' | 'endpoints'>): boolean {
  const { NetworkMode: mode, PortBindings, PublishAllPorts, Links, ExtraHosts, Dns, DnsSearch, DnsOptions } = hostConfig;
  return (
    (mode === 'bridge' || mode === 'none' || mode === 'host') &&
    [PortBindings, endpoints].every((map) => Object.keys(map ?? {}).length === 0) &&
    [Links, ExtraHosts, Dns, DnsSearch, DnsOptions].every((list) => (list ?? []).length === 0) &&
    !PublishAllPorts &&
    !config.MacAddress
  );
}

function decodeBody(json: Uint8Array): NonNullable<ReturnType<typeof decodeContainerCreate>> {
  try {
    const body = decodeContainerCreate(Buffer.from(json).toString('utf8'));
    if (body === undefined || isEmpty(body)) throw new InvalidParameter('config cannot be empty in order to create a container');
    return body;
  } catch (error) {
    throw error instanceof DecodeError ? new InvalidParameter(`invalid JSON: ${error.message}`, { cause: error }) : error;
  }
}

/** Whether nothing is said of the container itself. */
function isEmpty({ HostConfig: _host, NetworkingConfig: _networking, ...config }: ContainerCreateRequest): boolean {
  return Object.keys(config).length === 0;
}

function foreignPlatform({ os, architecture, variant }: ImageConfig): string[] {
  const own = normalisePlatform({ os: os || 'linux', architecture, ...(variant === undefined ? {} : { variant }) });
  const here = hostPlatform();
  if (architecture === '' || platformMatches(here, own)) return [];
  return [
    `The requested image's platform (${formatPlatform(own)}) does not match the detected host platform (${formatPlatform(here)}) and no specific platform was requested`,
  ];
}

/** What inspect calls Path and Args: the entrypoint, else the command. */
function command(config: ContainerConfig): { path: string; args: string[] } {
  const [path = '', ...args] = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  return { path, args };
}
