/** The body of NetworkCreate: checked in dockerd's words, with the configuration it takes from another network. Pure. */

import type { NetworkCreateRequest } from '@flotilla/engine-api';
import { Forbidden, InvalidParameter, NotFound, NotImplemented } from '@flotilla/errors';
import { type BridgeOptions, bridgeOptions, checkGatewayModes } from './bridgeOptions.ts';
import { checkIpam } from './ipam.ts';
import { checkNetworkName, hasBridge, type NetworkRecord, predefinedNames } from './network.ts';
import { isOnParent, parentWish } from './parentLinks.ts';

/** What is to be made. */
export interface NetworkWish {
  readonly name: string;
  readonly driver: NetworkRecord['driver'];
  /** Its driver is none of ours. */
  readonly isPlugin: boolean;
  readonly ipamDriver: string;
  readonly enableIPv4: boolean;
  readonly enableIPv6: boolean;
  readonly request: NetworkCreateRequest;
}

const scopes = ['', 'local', 'swarm', 'global'];

/** What there is already. */
export interface Known {
  configuration(name: string): NetworkRecord | undefined;
  readonly sharesNats: boolean;
  /** By driver, what the engine's options say where the client says nothing. */
  readonly defaultOptions: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/**
 * @param known.configuration - finds a configuration-only network by its name.
 * @param known.sharesNats - whether there are other hosts to make an overlay network with.
 * @throws Forbidden, InvalidParameter, NotFound.
 */
export function networkWish(given: NetworkCreateRequest, known: Known): NetworkWish {
  const name = given.Name ?? '';
  checkNetworkName(name);
  if (predefinedNames.includes(name)) throw new Forbidden(`operation is not permitted on predefined ${name} network `);
  if (!scopes.includes(given.Scope ?? '')) throw new InvalidParameter(`invalid network scope: "${given.Scope}"`);
  checkConfigurationFields(given);
  const configured = withConfiguration(given, (from) => known.configuration(from));
  const driver = given.ConfigOnly === true ? 'null' : driverOf(configured, known.sharesNats);
  // A configuration says all there is to say.
  const defaults = (given.ConfigFrom?.Network ?? '') === '' ? known.defaultOptions[driver] : undefined;
  const request = defaults === undefined ? configured : { ...configured, Options: { ...defaults, ...configured.Options } };
  const enableIPv6 = request.EnableIPv6 ?? false;
  const enableIPv4 = request.EnableIPv4 ?? true;
  if (!enableIPv4 && !enableIPv6) throw new InvalidParameter('IPv4 or IPv6 must be enabled');
  checkIpam(request.IPAM, enableIPv6);
  const options = request.Options ?? {};
  const steering = bridgeOptions(options);
  if (driver === 'bridge') checkBridge(request, steering);
  if (isOnParent(driver)) parentWish(driver, '', options);
  const isPlugin = driver !== 'null' && !hasBridge({ driver }) && !isOnParent(driver);
  return { name, driver, isPlugin, ipamDriver: request.IPAM?.Driver || 'default', enableIPv4, enableIPv6, request };
}

/** @throws Forbidden, System for what a bridge cannot be. */
function checkBridge(request: NetworkCreateRequest, steering: BridgeOptions): void {
  checkGatewayModes(steering, request.Internal ?? false);
  const families = (request.IPAM?.Config ?? []).map(({ Subnet }) => (Subnet?.includes(':') === true ? 6 : 4));
  const several = [4, 6].some((family) => families.filter((one) => one === family).length > 1);
  if (several) throw new Forbidden("bridge driver doesn't support multiple subnets");
}

function checkConfigurationFields(request: NetworkCreateRequest): void {
  const from = request.ConfigFrom?.Network ?? '';
  if (request.ConfigOnly === true) {
    if (request.Internal || request.Attachable || request.Ingress || request.Scope) {
      throw new Forbidden(
        'configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.',
      );
    }
    if (from !== '') throw new Forbidden('a configuration network cannot depend on another configuration network');
  }
  if (from === '') return;
  const given = Object.keys(request.Options ?? {}).length > 0 || (request.IPAM?.Config ?? []).length > 0 || request.EnableIPv6 === true;
  if (given || (request.IPAM?.Driver || 'default') !== 'default') {
    throw new Forbidden('user-specified configurations are not supported if the network depends on a configuration network');
  }
}

/** What the client left to a configuration-only network. Labels of its own win. */
function withConfiguration(
  request: NetworkCreateRequest,
  configurations: (name: string) => NetworkRecord | undefined,
): NetworkCreateRequest {
  const from = request.ConfigFrom?.Network ?? '';
  if (from === '') return request;
  const configuration = configurations(from);
  if (configuration === undefined) throw new NotFound(`configuration network "${from}" does not exist`);
  return {
    ...request,
    EnableIPv4: configuration.enableIPv4,
    EnableIPv6: configuration.enableIPv6,
    Options: { ...configuration.options },
    Labels: { ...configuration.labels, ...request.Labels },
    IPAM: {
      Driver: configuration.ipamDriver,
      Options: configuration.ipamOptions === null ? null : { ...configuration.ipamOptions },
      Config: configuration.subnets.map(({ subnet, ipRange, gateway, auxiliary }) => ({
        Subnet: subnet,
        ...(ipRange === undefined ? {} : { IPRange: ipRange }),
        ...(gateway === undefined ? {} : { Gateway: gateway }),
        ...(auxiliary === undefined ? {} : { AuxiliaryAddresses: { ...auxiliary } }),
      })),
    },
  };
}

/** @throws NotFound, Forbidden for a driver or kind of network we cannot make. */
function driverOf(request: NetworkCreateRequest, sharesNats: boolean): string {
  const driver = request.Driver || 'bridge';
  if ((driver === 'overlay' && !sharesNats) || request.Scope === 'swarm' || request.Ingress === true) {
    throw new Forbidden(
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    );
  }
  if (driver === 'host' || driver === 'null') throw new Forbidden(`only one instance of "${driver}" network is allowed`);
  if (driver === 'overlay') checkOverlay(request);
  return driver;
}

/** @throws NotImplemented, InvalidParameter for what overlay networks cannot do here. */
function checkOverlay(request: NetworkCreateRequest): void {
  const encrypted = request.Options?.encrypted;
  if (encrypted !== undefined && encrypted !== 'false') {
    throw new NotImplemented('encrypted overlay networks are not supported: use an underlay that encrypts (WireGuard, IPsec)');
  }
  const ipamDriver = request.IPAM?.Driver || 'default';
  if (ipamDriver !== 'default') throw new InvalidParameter(`invalid ipam driver: "${ipamDriver}"`);
}
