/** network-volume: networks, sandboxes, volumes. This file is the service's diagram. */
import { join } from 'node:path';
import { NetworksService, SandboxesService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { VolumesService } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { openRecords } from '@flotilla/records';
import { type RunningService, runAsProcess, startService } from '@flotilla/service-kit';
import { TicketServer } from '@flotilla/streams';
import { ForwardJump } from './adapters/forwardJump.ts';
import { Instances } from './adapters/instances.ts';
import { KernelNetwork } from './adapters/kernelNetwork.ts';
import { NameServers } from './adapters/nameServers.ts';
import { NetworkPlugins } from './adapters/networkPlugins.ts';
import { PacketFilter } from './adapters/packetFilter.ts';
import { ParentInterfaces } from './adapters/parentInterfaces.ts';
import { PluginDirectory } from './adapters/pluginDirectory.ts';
import { PortHolder } from './adapters/portHolder.ts';
import { SandboxFiles } from './adapters/sandboxFiles.ts';
import { shareWithHosts } from './adapters/sharedHosts.ts';
import { TrackedFlows } from './adapters/trackedFlows.ts';
import { copyUp, VolumeFolders } from './adapters/volumeFolders.ts';
import { VolumePlugins } from './adapters/volumePlugins.ts';
import { packDirectory, unpackInto } from './adapters/volumeTar.ts';
import { addressPools } from './addressPools.ts';
import { networksApi } from './api/networks.ts';
import { sandboxesApi } from './api/sandboxes.ts';
import { volumesApi } from './api/volumes.ts';
import { settingsSchema } from './config.ts';
import { NameDirectory } from './dns/directory.ts';
import { Forwarder } from './dns/forwarder.ts';
import { LocalVolumes } from './localVolumes.ts';
import type { NetworkRecord } from './network.ts';
import { networkInfo } from './networkInfo.ts';
import { NetworkKernel } from './networkKernel.ts';
import { Networks } from './networks.ts';
import { followOthers, isPublished } from './otherInstances.ts';
import { PluginEndpoints } from './pluginEndpoints.ts';
import { PluginNetworks } from './pluginNetworks.ts';
import { PortAllocator } from './ports.ts';
import { PredefinedNetworks } from './predefinedNetworks.ts';
import { reconcile } from './reconcile.ts';
import { recordsOf } from './records.ts';
import { networkVolumeSubjects } from './rights.ts';
import { Sandboxes } from './sandboxes.ts';
import { SandboxFileSet } from './sandboxFileSet.ts';
import { portForwards } from './sandboxPlan.ts';
import { SlotPool } from './slotPool.ts';
import { VolumeArchives } from './volumeArchives.ts';
import { Volumes } from './volumes.ts';

const streamDrainMs = 5_000;

export async function start(env: NodeJS.ProcessEnv): Promise<RunningService> {
  return startService('network-volume', settingsSchema, env, async (kit) => {
    const { settings, logger, lifecycle, server, workload, policy } = kit;
    const options = settings.FLOTILLA_ENGINE_OPTIONS;
    const execFolder = join(settings.FLOTILLA_EXEC_ROOT, 'network-volume');
    const onError = (error: unknown): void => logger.error({ error }, 'a background task failed');

    const volumeRoot = join(settings.FLOTILLA_DATA_ROOT, 'volumes');
    const netnsFolder = join(settings.FLOTILLA_EXEC_ROOT, 'netns');
    const records = recordsOf(await openRecords('network-volume', kit, [volumeRoot, netnsFolder]));

    const instances = new Instances(join(execFolder, 'instances'));
    lifecycle.onStop('instance lock', () => instances.close());
    const kernel = new KernelNetwork({
      netnsFolder,
      engineId: settings.FLOTILLA_ENGINE_ID,
      token: instances.token,
      forwards: options.ipForward,
    });
    const forwardJump = new ForwardJump(onError, settings.FLOTILLA_FIREWALL_TABLE);
    const defaultBridge = (): NetworkRecord | undefined => records.networks.get(records.networkNames.get('bridge')?.networkId ?? '');
    const filter = new PacketFilter({
      table: settings.FLOTILLA_FIREWALL_TABLE,
      onError,
      recordedPorts: () => [...records.sandboxes.values()].flatMap(portForwards),
      onRestore: () => logger.warn('the packet filter table was gone or changed: put back'),
      onMisfit: (error) => logger.warn({ error }, 'a change did not fit the packet filter table: it is written anew'),
      isWritten: options.iptables,
      onBridge: (name, isThere) => (isThere ? forwardJump.addBridge(name) : forwardJump.removeBridge(name)),
      onForeignChange: () => forwardJump.check(),
    });
    lifecycle.onStop('packet filter', () => filter.close());
    // Containers that go on running need it still.
    lifecycle.onStop('forward jump', () => (records.sandboxes.size === 0 ? forwardJump.remove() : undefined));
    const holder = new PortHolder(onError);
    lifecycle.onStop('port holder', () => holder.close());

    const pools = addressPools(options.defaultAddressPools, settings.FLOTILLA_ENGINE_ID);
    const parents = new ParentInterfaces({ engineId: settings.FLOTILLA_ENGINE_ID });
    const hosts = await shareWithHosts({ kit, records, follow: (shared) => networks.follow(shared), onError });
    lifecycle.onStop('overlay', () => hosts?.overlay.close());
    const pluginDirectory = new PluginDirectory(settings.FLOTILLA_PLUGIN_FOLDERS);
    const plugins = new NetworkPlugins(pluginDirectory);
    const networks: Networks = new Networks({
      records,
      kernel: new NetworkKernel({ bridges: kernel, parents, rules: filter, tunnels: hosts?.tunnels }),
      bridges: kernel,
      pools,
      plugged: new PluginNetworks({ plugins, onError }),
      defaultOptions: options.defaultNetworkOptions,
      overlay: hosts?.overlay,
      onError,
    });
    const files = new SandboxFileSet({
      files: new SandboxFiles(join(execFolder, 'sandboxes')),
      records,
      dns: options.dns,
      dnsSearch: options.dnsSearch,
      dnsOptions: options.dnsOptions,
      hostGateways: () => (options.hostGatewayIps.length > 0 ? options.hostGatewayIps : [defaultBridge()?.subnets[0]?.gateway ?? '']),
    });
    const nameServers = new NameServers({
      directory: new NameDirectory(records, hosts?.overlay),
      forwarder: new Forwarder(),
      upstreams: (containerId) => {
        const sandbox = records.sandboxes.get(containerId);
        return sandbox === undefined ? { servers: [], isInside: true } : files.upstreams(sandbox);
      },
      onError,
    });
    lifecycle.onStop('name servers', () => nameServers.close());
    const slots = new SlotPool(kernel, { size: settings.FLOTILLA_SANDBOX_POOL, onError });
    lifecycle.onStop('namespace pool', () => slots.close());
    const sandboxes = new Sandboxes({
      records,
      networks,
      stacks: kernel,
      slots,
      rules: filter,
      flows: new TrackedFlows(onError),
      ports: new PortAllocator(holder, (port) => isPublished(records.sandboxes.values(), port), options.iptables),
      holder,
      files,
      nameServers,
      plugged: new PluginEndpoints({ records, plugins, onError }),
      cluster: hosts?.overlay,
      hasOthers: () => instances.livingOthers().size > 0,
      hostIp: options.ip,
    });
    const tickets = new TicketServer({ address: settings.FLOTILLA_STREAM_ADDRESS, logger });
    await tickets.listen();
    lifecycle.onStop('streams', () => tickets.close(streamDrainMs));
    workload.addStreams(() => tickets.active);
    lifecycle.onDrain({ name: 'streams', move: () => tickets.move(), isBusy: () => tickets.isBusy });
    followOthers({ records, sandboxes, filter, holder, nameServers, onError });
    const drivers = new VolumePlugins({
      local: new LocalVolumes(new VolumeFolders(volumeRoot)),
      directory: pluginDirectory,
      copyUp,
    });
    const volumes = new Volumes({ records, drivers, onError });

    await new PredefinedNetworks({ records, bridges: kernel, pools, defaultBridge: options }).ensure();
    const livingOthers = instances.livingOthers();
    await reconcile({ records, networks, sandboxes, stacks: kernel, rules: filter, holder, nameServers, files, livingOthers, logger });
    filter.start();
    // What a run with `--iptables` has left.
    if (!options.iptables) await forwardJump.remove();
    hosts?.begin();
    const volumesAreRight = volumes.reconcile();
    // What another instance is busy with is waited for, but nobody waits for that.
    if (livingOthers.size === 0) await volumesAreRight;
    else volumesAreRight.catch(onError);
    slots.refillLater();

    const info = () => {
      const used = [...records.networks.values()].map(({ driver }) => driver);
      const names = { volume: drivers.names(), network: used };
      return networkInfo(options, names, defaultBridge()?.bridge ?? '', forwardJump.placedIn());
    };
    server.guard(networkVolumeSubjects(records, networks));
    server.add(NetworksService, networksApi(networks, records, info, policy));
    server.add(SandboxesService, sandboxesApi(sandboxes));
    const archives = new VolumeArchives({ records, volumes, local: drivers.local, archiver: { pack: packDirectory, unpackInto } });
    server.add(VolumesService, volumesApi({ volumes, records, archives, tickets, policy }));
  });
}

if (import.meta.main) await runAsProcess(start);
