/** RegistryServiceConfig of `docker info`: which registries are mirrored and which may be spoken to in clear. */
import type { RegistryServiceConfig } from '@flotilla/engine-api';
import { type EndpointSettings, loopbackNetworks, splitInsecure } from './upstream/endpoints.ts';

export function registryInfo(settings: EndpointSettings): RegistryServiceConfig {
  const { networks, hosts } = splitInsecure(settings.insecureRegistries);
  const mirrors = settings.registryMirrors.map((mirror) => `${mirror.replace(/\/+$/, '')}/`);
  const indexes: RegistryServiceConfig['IndexConfigs'] = {
    'docker.io': { Name: 'docker.io', Mirrors: mirrors, Secure: true, Official: true },
  };
  for (const host of hosts) indexes[host] = { Name: host, Mirrors: [], Secure: false, Official: false };
  return {
    AllowNondistributableArtifactsCIDRs: null,
    AllowNondistributableArtifactsHostnames: null,
    InsecureRegistryCIDRs: [...loopbackNetworks, ...networks],
    IndexConfigs: indexes,
    Mirrors: mirrors,
  };
}
