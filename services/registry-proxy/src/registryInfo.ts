/** RegistryServiceConfig of `docker info`: which registries are mirrored and which may be spoken to in clear. */
import type { RegistryServiceConfig } from '@flotilla/engine-api';
import { loopbackNetworks, splitInsecure } from './upstream/endpoints.ts';

/** @param mirrorUrls - of docker.io, without a slash at the end. */
export function registryInfo(insecureRegistries: readonly string[], mirrorUrls: readonly string[]): RegistryServiceConfig {
  const { networks, hosts } = splitInsecure(insecureRegistries);
  const mirrors = mirrorUrls.map((mirror) => `${mirror}/`);
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
