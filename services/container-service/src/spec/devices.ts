/** Device nodes of a container, and the control group's rules for them. */
import { lstatSync, readdirSync, realpathSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceMapping, HostConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { RuntimeDevice, RuntimeDeviceRule } from '@flotilla/oci';
import { splitDevice } from '@flotilla/syscalls';

export interface ContainerDevices {
  readonly nodes: RuntimeDevice[];
  readonly rules: RuntimeDeviceRule[];
}

/** Docker's defaults: nothing, but making nodes, and the harmless ones every program expects. */
const defaultRules: readonly RuntimeDeviceRule[] = [
  { allow: false, access: 'rwm' },
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[
    [1, 5],
    [1, 3],
    [1, 9],
    [1, 8],
    [1, 7],
    [5, 0],
    [5, 1],
  ].map(([major, minor]): RuntimeDeviceRule => ({ allow: true, type: 'c', ...{ major, minor }, access: 'rwm' })),
  { allow: true, type: 'c', major: 136, access: 'rwm' },
  { allow: true, type: 'c', major: 5, minor: 2, access: 'rwm' },
];

/** Directories of /dev that belong to something else than devices. */
const skippedDirectories = ['pts', 'shm', 'fd', 'mqueue', '.lxc', '.lxd-mounts', '.udev'];
const rulePattern = /^([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})$/;

/** @throws InvalidParameter for a device that is not there or a rule that is none. */
export function containerDevices(hostConfig: HostConfig): ContainerDevices {
  if (hostConfig.Privileged) {
    const everything: RuntimeDeviceRule = { allow: true, access: 'rwm' };
    const mapped = (hostConfig.Devices ?? []).flatMap((device) => mappedNodes(device));
    const nodes = new Map([...nodesBelow('/dev', '/dev'), ...mapped].map((node) => [node.path, node]));
    return { nodes: [...nodes.values()], rules: [everything] };
  }
  const nodes: RuntimeDevice[] = [];
  const rules: RuntimeDeviceRule[] = [...defaultRules];
  for (const mapping of hostConfig.Devices ?? []) {
    for (const node of mappedNodes(mapping)) {
      nodes.push(node);
      rules.push({
        allow: true,
        type: node.type === 'b' ? 'b' : 'c',
        ...(node.major === undefined ? {} : { major: node.major }),
        ...(node.minor === undefined ? {} : { minor: node.minor }),
        access: mapping.CgroupPermissions || 'rwm',
      });
    }
  }
  for (const rule of hostConfig.DeviceCgroupRules ?? []) rules.push(parseDeviceRule(rule));
  return { nodes, rules };
}

/** `c 1:3 rwm`. @throws InvalidParameter */
export function parseDeviceRule(rule: string): RuntimeDeviceRule {
  const match = rulePattern.exec(rule);
  const [, type, major, minor, access] = match ?? [];
  if (type === undefined || access === undefined) throw new InvalidParameter(`invalid device cgroup rule format: '${rule}'`);
  return {
    allow: true,
    type: type === 'b' ? 'b' : type === 'c' ? 'c' : 'a',
    ...(major === '*' ? {} : { major: Number(major) }),
    ...(minor === '*' ? {} : { minor: Number(minor) }),
    access,
  };
}

function mappedNodes(mapping: DeviceMapping): RuntimeDevice[] {
  const onHost = mapping.PathOnHost ?? '';
  const inContainer = mapping.PathInContainer || onHost;
  try {
    const path = realpathSync(onHost);
    const found = statSync(path).isDirectory() ? nodesBelow(path, inContainer) : [nodeOf(path, inContainer)];
    const nodes = found.filter((node) => node !== undefined);
    if (nodes.length > 0) return nodes;
  } catch (error) {
    const reason = error instanceof InvalidParameter ? error.message : 'no such file or directory';
    throw new InvalidParameter(`error gathering device information while adding custom device ${JSON.stringify(onHost)}: ${reason}`, {
      cause: error,
    });
  }
  throw new InvalidParameter(`error gathering device information while adding custom device ${JSON.stringify(onHost)}: not a device node`);
}

function nodesBelow(directory: string, shownAs: string): RuntimeDevice[] {
  const nodes: RuntimeDevice[] = [];
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    const shown = join(shownAs, entry.name);
    if (entry.isDirectory()) {
      if (!skippedDirectories.includes(entry.name)) nodes.push(...nodesBelow(path, shown));
    } else if (entry.name !== 'console' && (entry.isCharacterDevice() || entry.isBlockDevice())) {
      const node = nodeOf(path, shown);
      if (node !== undefined) nodes.push(node);
    }
  }
  return nodes;
}

function nodeOf(path: string, shownAs: string): RuntimeDevice | undefined {
  let status: Stats;
  try {
    status = lstatSync(path);
  } catch {
    return undefined;
  }
  if (!status.isCharacterDevice() && !status.isBlockDevice()) return undefined;
  return {
    path: shownAs,
    type: status.isBlockDevice() ? 'b' : 'c',
    ...splitDevice(BigInt(status.rdev)),
    fileMode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
  };
}
