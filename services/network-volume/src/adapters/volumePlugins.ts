/** The drivers of volumes: the local one, and the plugins found in dockerd's folders. */
import { randomBytes } from 'node:crypto';
import { errorMessage, NotFound } from '@flotilla/errors';
import { z } from 'zod';
import type { LocalVolumes } from '../localVolumes.ts';
import type { PluginVolume, VolumeRecord, VolumeState } from '../volume.ts';
import type { VolumeDriver } from '../volumeDriver.ts';
import type { VolumeDrivers } from '../volumes.ts';
import { PluginClient } from './pluginClient.ts';
import type { PluginDirectory } from './pluginDirectory.ts';

const volumeShape = z.object({
  Name: z.string(),
  Mountpoint: z.string().nullish(),
  CreatedAt: z.string().nullish(),
  Status: z.record(z.string(), z.unknown()).nullish(),
});
const nothing = z.unknown();
const gotten = z.object({ Volume: volumeShape.nullish() });
const listed = z.object({ Volumes: z.array(volumeShape).nullish() });
const mounted = z.object({ Mountpoint: z.string().nullish() });
const capabilities = z.object({ Capabilities: z.object({ Scope: z.string().nullish() }).nullish() });

/** Copies a directory into an empty one that is mounted. */
export type CopyUp = (sourceDir: string, targetDir: string, subpath: string) => Promise<boolean>;

/** A plugin, of networks or of what else there is. */
class OtherKind extends NotFound {}

class VolumePlugin implements VolumeDriver {
  readonly name: string;
  readonly scope: 'local' | 'global';
  private readonly client: PluginClient;
  private readonly copyUp: CopyUp;

  constructor(name: string, scope: 'local' | 'global', client: PluginClient, copyUp: CopyUp) {
    this.name = name;
    this.scope = scope;
    this.client = client;
    this.copyUp = copyUp;
  }

  /** What options there are is the plugin's business. */
  check(): void {}

  async create(name: string, options: Readonly<Record<string, string>>): Promise<void> {
    await this.client.call('VolumeDriver.Create', { Name: name, Opts: options }, nothing);
  }

  async remove(name: string): Promise<void> {
    await this.client.call('VolumeDriver.Remove', { Name: name }, nothing);
  }

  /** A plugin has one way to say that it does not know a volume: an error. */
  async state({ name }: Pick<VolumeRecord, 'name'>): Promise<VolumeState> {
    let found: z.output<typeof gotten>;
    try {
      found = await this.client.call('VolumeDriver.Get', { Name: name }, gotten);
    } catch (error) {
      throw new NotFound(errorMessage(error), { cause: error });
    }
    if (!found.Volume) throw new NotFound('no such volume');
    return stateOf(found.Volume);
  }

  async mount(volume: VolumeRecord, user: string): Promise<string> {
    const { Mountpoint } = await this.client.call('VolumeDriver.Mount', { Name: volume.name, ID: user }, mounted);
    if (Mountpoint) return Mountpoint;
    const path = await this.client.call('VolumeDriver.Path', { Name: volume.name }, mounted);
    return path.Mountpoint ?? '';
  }

  async unmount(volume: VolumeRecord, user: string): Promise<void> {
    await this.client.call('VolumeDriver.Unmount', { Name: volume.name, ID: user }, nothing);
  }

  async populate(volume: VolumeRecord, sourceDir: string, subpath: string): Promise<boolean> {
    const user = `copy-${randomBytes(8).toString('hex')}`;
    const path = await this.mount(volume, user);
    try {
      return await this.copyUp(sourceDir, path, subpath);
    } finally {
      await this.unmount(volume, user);
    }
  }

  async list(): Promise<PluginVolume[]> {
    const { Volumes } = await this.client.call('VolumeDriver.List', {}, listed);
    return (Volumes ?? []).map((volume) => ({ driver: this.name, scope: this.scope, name: volume.Name, state: stateOf(volume) }));
  }
}

function stateOf(volume: z.output<typeof volumeShape>): VolumeState {
  return {
    mountpoint: volume.Mountpoint ?? '',
    ...(volume.CreatedAt ? { createdAt: volume.CreatedAt } : {}),
    ...(volume.Status ? { status: volume.Status } : {}),
  };
}

export class VolumePlugins implements VolumeDrivers {
  readonly local: LocalVolumes;
  private readonly directory: PluginDirectory;
  private readonly copyUp: CopyUp;
  private readonly loaded = new Map<string, { address: string; plugin: Promise<VolumePlugin> }>();

  constructor(options: { local: LocalVolumes; directory: PluginDirectory; copyUp: CopyUp }) {
    this.local = options.local;
    this.directory = options.directory;
    this.copyUp = options.copyUp;
  }

  async find(name: string): Promise<VolumeDriver> {
    return name === this.local.name ? this.local : this.plugin(name);
  }

  private plugin(name: string): Promise<VolumePlugin> {
    const address = this.directory.find(name);
    if (address === undefined) return Promise.reject(new NotFound(`error looking up volume plugin ${name}: plugin "${name}" not found`));
    const key = JSON.stringify(address);
    const known = this.loaded.get(name);
    if (known?.address === key) return known.plugin;
    const plugin = this.load(name, new PluginClient(address));
    this.loaded.set(name, { address: key, plugin });
    plugin.catch(() => this.loaded.delete(name));
    return plugin;
  }

  private async load(name: string, client: PluginClient): Promise<VolumePlugin> {
    if (!(await client.implements()).includes('VolumeDriver')) {
      throw new OtherKind(`error looking up volume plugin ${name}: plugin "${name}" does not implement VolumeDriver`);
    }
    const scope = await client.call('VolumeDriver.Capabilities', {}, capabilities).then(
      (answer) => (answer.Capabilities?.Scope === 'global' ? 'global' : 'local'),
      // Older plugins have no such method.
      () => 'local' as const,
    );
    return new VolumePlugin(name, scope, client, this.copyUp);
  }

  async outside(): Promise<{ volumes: PluginVolume[]; warnings: string[] }> {
    const names = this.directory.names();
    const answers = await Promise.allSettled(names.map(async (name) => (await this.plugin(name)).list()));
    const volumes: PluginVolume[] = [];
    const warnings: string[] = [];
    for (const [index, answer] of answers.entries()) {
      if (answer.status === 'fulfilled') volumes.push(...answer.value);
      else if (!(answer.reason instanceof OtherKind))
        warnings.push(`error while listing volumes of plugin ${names[index]}: ${errorMessage(answer.reason)}`);
    }
    return { volumes, warnings };
  }

  names(): string[] {
    return [this.local.name, ...this.directory.names()].sort();
  }
}
