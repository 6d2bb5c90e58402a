/** Joining a container to networks and taking it off them, whether it runs or not. */
import { DecodeError, decodeDocument, type EndpointSettings, endpointSettings, type NetworkSettings } from '@flotilla/engine-api';
import { Conflict, Forbidden, InvalidParameter } from '@flotilla/errors';
import { type ContainerRecord, isRunning, sharedContainer } from './container.ts';
import { findContainer } from './lookup.ts';
import { fromJson, type Neighbours, toJson } from './neighbours.ts';
import { sandboxSpec } from './sandboxSpec.ts';
import type { ContainerStore } from './store.ts';

export interface ConnectorOptions {
  readonly store: ContainerStore;
  readonly neighbours: Pick<Neighbours, 'sandboxes'>;
}

/** @see Engine API v1.50 NetworkConnect */
export async function connectNetwork(
  options: ConnectorOptions,
  network: string,
  reference: string,
  endpointJson: Uint8Array,
): Promise<void> {
  const { store, neighbours } = options;
  const endpoint = decodeEndpoint(endpointJson);
  const { id } = findContainer(store, reference);
  await store.withContainer(id, async (container, lease) => {
    refuseSharedStack(container.hostConfig.NetworkMode);
    const endpoints = withoutPlaceholder(container.hostConfig.NetworkMode, explicitEndpoints(container));
    const spec = sandboxSpec({ ...container, endpoints: { ...endpoints, [network]: endpoint } }, (id) => store.containers.get(id));
    const answer = await neighbours.sandboxes.connect({ network, spec, endpointJson: toJson(endpoint), running: isRunning(container) });
    await store.save(
      {
        ...container,
        endpoints: { ...endpoints, [answer.networkName]: endpoint },
        ...settingsFrom(answer.networkSettingsJson),
      },
      lease,
    );
  });
}

/** @see Engine API v1.50 NetworkDisconnect */
export async function disconnectNetwork(options: ConnectorOptions, network: string, reference: string, force: boolean): Promise<void> {
  const { store, neighbours } = options;
  const { id } = findContainer(store, reference);
  await store.withContainer(id, async (container, lease) => {
    refuseSharedStack(container.hostConfig.NetworkMode);
    const answer = await neighbours.sandboxes.disconnect({
      network,
      containerId: id,
      containerName: container.name,
      force,
      running: isRunning(container),
    });
    const before = explicitEndpoints(container);
    if (!isRunning(container) && before[answer.networkName] === undefined) {
      throw new Forbidden(`container ${id} is not connected to network ${answer.networkName}`);
    }
    const { [answer.networkName]: _gone, ...left } = before;
    // No network at all must not mean the default one at the next start.
    const endpoints = Object.keys(left).length === 0 ? { none: {} } : left;
    const settings = isRunning(container) ? settingsFrom(answer.networkSettingsJson) : withoutNetwork(container, answer.networkName);
    await store.save({ ...container, endpoints, ...settings }, lease);
  });
}

/** The endpoints a start makes: those asked for, else the network mode's. */
function explicitEndpoints({ endpoints, hostConfig }: Pick<ContainerRecord, 'endpoints' | 'hostConfig'>): Record<string, EndpointSettings> {
  const { NetworkMode: mode = '' } = hostConfig;
  if (Object.keys(endpoints).length > 0) return { ...endpoints };
  return { [mode === '' || mode === 'default' ? 'bridge' : mode]: {} };
}

/** `none` stands for a container that was taken off its last network: with a new one it has its say no more. */
function withoutPlaceholder(mode: string | undefined, endpoints: Record<string, EndpointSettings>): Record<string, EndpointSettings> {
  if (mode === 'none') return endpoints;
  const { none: _placeholder, ...others } = endpoints;
  return others;
}

/** What a stopped container shows after it was taken off a network. */
function withoutNetwork({ networkSettings }: ContainerRecord, network: string): { networkSettings?: NetworkSettings } {
  if (networkSettings === undefined) return {};
  const { [network]: _gone, ...Networks } = networkSettings.Networks;
  return { networkSettings: { ...networkSettings, Networks } };
}

function refuseSharedStack(mode: string | undefined): void {
  if (sharedContainer(mode) !== undefined)
    throw new Conflict('container sharing network namespace with another container or host cannot be connected to any other network');
}

function settingsFrom(json: Uint8Array): { networkSettings?: NetworkSettings } {
  const settings = fromJson<NetworkSettings>(json);
  return settings === undefined ? {} : { networkSettings: settings };
}

function decodeEndpoint(json: Uint8Array): EndpointSettings {
  if (json.length === 0) return {};
  try {
    return decodeDocument(endpointSettings, Buffer.from(json).toString('utf8')) ?? {};
  } catch (error) {
    throw error instanceof DecodeError ? new InvalidParameter(`invalid JSON: ${error.message}`, { cause: error }) : error;
  }
}
