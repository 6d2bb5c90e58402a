/** The operation a request asks for, by the ids that the Engine API gives them: what rights and the audit log speak of. */

const table: readonly (readonly [method: string, path: string, operation: string])[] = [
  ['GET', '/containers/json', 'ContainerList'],
  ['POST', '/containers/create', 'ContainerCreate'],
  ['GET', '/containers/{id}/json', 'ContainerInspect'],
  ['GET', '/containers/{id}/top', 'ContainerTop'],
  ['GET', '/containers/{id}/logs', 'ContainerLogs'],
  ['GET', '/containers/{id}/changes', 'ContainerChanges'],
  ['GET', '/containers/{id}/export', 'ContainerExport'],
  ['GET', '/containers/{id}/stats', 'ContainerStats'],
  ['POST', '/containers/{id}/resize', 'ContainerResize'],
  ['POST', '/containers/{id}/start', 'ContainerStart'],
  ['POST', '/containers/{id}/stop', 'ContainerStop'],
  ['POST', '/containers/{id}/restart', 'ContainerRestart'],
  ['POST', '/containers/{id}/kill', 'ContainerKill'],
  ['POST', '/containers/{id}/update', 'ContainerUpdate'],
  ['POST', '/containers/{id}/rename', 'ContainerRename'],
  ['POST', '/containers/{id}/pause', 'ContainerPause'],
  ['POST', '/containers/{id}/unpause', 'ContainerUnpause'],
  ['POST', '/containers/{id}/attach', 'ContainerAttach'],
  ['GET', '/containers/{id}/attach/ws', 'ContainerAttachWebsocket'],
  ['POST', '/containers/{id}/wait', 'ContainerWait'],
  ['DELETE', '/containers/{id}', 'ContainerDelete'],
  ['HEAD', '/containers/{id}/archive', 'ContainerArchiveInfo'],
  ['GET', '/containers/{id}/archive', 'ContainerArchive'],
  ['PUT', '/containers/{id}/archive', 'PutContainerArchive'],
  ['POST', '/containers/prune', 'ContainerPrune'],
  ['GET', '/images/json', 'ImageList'],
  ['POST', '/build', 'ImageBuild'],
  ['POST', '/build/prune', 'BuildPrune'],
  ['POST', '/images/create', 'ImageCreate'],
  ['GET', '/images/{name}/json', 'ImageInspect'],
  ['GET', '/images/{name}/history', 'ImageHistory'],
  ['POST', '/images/{name}/push', 'ImagePush'],
  ['POST', '/images/{name}/tag', 'ImageTag'],
  ['DELETE', '/images/{name}', 'ImageDelete'],
  ['GET', '/images/search', 'ImageSearch'],
  ['POST', '/images/prune', 'ImagePrune'],
  ['POST', '/auth', 'SystemAuth'],
  ['GET', '/info', 'SystemInfo'],
  ['GET', '/version', 'SystemVersion'],
  ['POST', '/commit', 'ImageCommit'],
  ['GET', '/events', 'SystemEvents'],
  ['GET', '/system/df', 'SystemDataUsage'],
  ['GET', '/images/{name}/get', 'ImageGet'],
  ['GET', '/images/get', 'ImageGetAll'],
  ['POST', '/images/load', 'ImageLoad'],
  ['POST', '/containers/{id}/exec', 'ContainerExec'],
  ['POST', '/exec/{id}/start', 'ExecStart'],
  ['POST', '/exec/{id}/resize', 'ExecResize'],
  ['GET', '/exec/{id}/json', 'ExecInspect'],
  ['GET', '/volumes', 'VolumeList'],
  ['POST', '/volumes/create', 'VolumeCreate'],
  ['GET', '/volumes/{name}', 'VolumeInspect'],
  ['PUT', '/volumes/{name}', 'VolumeUpdate'],
  ['DELETE', '/volumes/{name}', 'VolumeDelete'],
  ['POST', '/volumes/prune', 'VolumePrune'],
  ['GET', '/networks', 'NetworkList'],
  ['GET', '/networks/{id}', 'NetworkInspect'],
  ['DELETE', '/networks/{id}', 'NetworkDelete'],
  ['POST', '/networks/create', 'NetworkCreate'],
  ['POST', '/networks/{id}/connect', 'NetworkConnect'],
  ['POST', '/networks/{id}/disconnect', 'NetworkDisconnect'],
  ['POST', '/networks/prune', 'NetworkPrune'],
  ['GET', '/plugins', 'PluginList'],
  ['GET', '/plugins/privileges', 'GetPluginPrivileges'],
  ['POST', '/plugins/pull', 'PluginPull'],
  ['GET', '/plugins/{name}/json', 'PluginInspect'],
  ['DELETE', '/plugins/{name}', 'PluginDelete'],
  ['POST', '/plugins/{name}/enable', 'PluginEnable'],
  ['POST', '/plugins/{name}/disable', 'PluginDisable'],
  ['POST', '/plugins/{name}/upgrade', 'PluginUpgrade'],
  ['POST', '/plugins/create', 'PluginCreate'],
  ['POST', '/plugins/{name}/push', 'PluginPush'],
  ['POST', '/plugins/{name}/set', 'PluginSet'],
  ['GET', '/nodes', 'NodeList'],
  ['GET', '/nodes/{id}', 'NodeInspect'],
  ['DELETE', '/nodes/{id}', 'NodeDelete'],
  ['POST', '/nodes/{id}/update', 'NodeUpdate'],
  ['GET', '/swarm', 'SwarmInspect'],
  ['POST', '/swarm/init', 'SwarmInit'],
  ['POST', '/swarm/join', 'SwarmJoin'],
  ['POST', '/swarm/leave', 'SwarmLeave'],
  ['POST', '/swarm/update', 'SwarmUpdate'],
  ['GET', '/swarm/unlockkey', 'SwarmUnlockkey'],
  ['POST', '/swarm/unlock', 'SwarmUnlock'],
  ['GET', '/services', 'ServiceList'],
  ['POST', '/services/create', 'ServiceCreate'],
  ['GET', '/services/{id}', 'ServiceInspect'],
  ['DELETE', '/services/{id}', 'ServiceDelete'],
  ['POST', '/services/{id}/update', 'ServiceUpdate'],
  ['GET', '/services/{id}/logs', 'ServiceLogs'],
  ['GET', '/tasks', 'TaskList'],
  ['GET', '/tasks/{id}', 'TaskInspect'],
  ['GET', '/tasks/{id}/logs', 'TaskLogs'],
  ['GET', '/secrets', 'SecretList'],
  ['POST', '/secrets/create', 'SecretCreate'],
  ['GET', '/secrets/{id}', 'SecretInspect'],
  ['DELETE', '/secrets/{id}', 'SecretDelete'],
  ['POST', '/secrets/{id}/update', 'SecretUpdate'],
  ['GET', '/configs', 'ConfigList'],
  ['POST', '/configs/create', 'ConfigCreate'],
  ['GET', '/configs/{id}', 'ConfigInspect'],
  ['DELETE', '/configs/{id}', 'ConfigDelete'],
  ['POST', '/configs/{id}/update', 'ConfigUpdate'],
  ['GET', '/distribution/{name}/json', 'DistributionInspect'],
  ['POST', '/session', 'Session'],
  ['POST', '/grpc', 'Session'],
  ['POST', '/build/cancel', 'BuildCancel'],
  ['GET', '/metrics', 'Metrics'],
  ['GET', '/_ping', 'SystemPing'],
  ['GET', '/hosts', 'SystemHosts'],
];

interface Known {
  readonly operation: string;
  readonly pattern: RegExp;
}

const byMethod = new Map<string, Known[]>();
for (const [method, path, operation] of table) {
  const known = byMethod.get(method) ?? [];
  known.push({ operation, pattern: new RegExp(`^${path.replace(/\{\w+\}/g, '(?<object>.*)')}/?$`) });
  byMethod.set(method, known);
}
// A fixed path goes before one with a name in it, as the routes are ordered.
for (const known of byMethod.values())
  known.sort((a, b) => Number(a.pattern.source.includes('object')) - Number(b.pattern.source.includes('object')));

export interface Operation {
  readonly id: string;
  /** The name in the path, as the client wrote it; empty when there is none. */
  readonly object: string;
}

/** Undefined for what is no operation of the API. `path` has neither version nor query. */
export function operationOf(method: string, path: string): Operation | undefined {
  return search(method, path) ?? (method === 'HEAD' ? search('GET', path) : undefined);
}

function search(method: string, path: string): Operation | undefined {
  for (const { operation, pattern } of byMethod.get(method) ?? []) {
    const match = pattern.exec(path);
    if (match !== null) return { id: operation, object: match.groups?.object ?? '' };
  }
  return undefined;
}
