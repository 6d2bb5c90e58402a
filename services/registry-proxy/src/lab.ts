/**
 * How a stack reaches the proxy of its lab: its certificate and who the stack is to it are in the upstreams file, under the proxy's own
 * HOST:PORT, or where dockerd looks for certificates.
 */
import type { RegistryProxySettings } from './config.ts';
import { CertificateFolder } from './upstream/certificateFolder.ts';
import { type Connection, connectionOf } from './upstream/connection.ts';
import { splitInsecure } from './upstream/endpoints.ts';
import { basicAuthorization } from './upstream/tokens.ts';
import { readUpstreams } from './upstream/upstreamsFile.ts';

export interface Lab {
  /** `https://registry.lab:5000`, without a slash at the end. */
  readonly url: string;
  readonly connection: Connection;
  /** The header Authorization for it. */
  readonly authorization?: string;
}

/** @throws InvalidParameter, UpstreamAway when files cannot be used. */
export async function labAt(address: string, settings: RegistryProxySettings): Promise<Lab> {
  const { upstreamsFile, insecureRegistries } = settings.FLOTILLA_ENGINE_OPTIONS;
  const url = address.replace(/\/+$/, '');
  const { host } = new URL(url);
  const named = upstreamsFile === undefined ? undefined : (await readUpstreams(upstreamsFile)).named.get(host)?.endpoint;
  const tls = named?.tls ?? (await new CertificateFolder(settings.FLOTILLA_REGISTRY_CERTIFICATES).of(host));
  const verifyTls = named?.verifyTls ?? !splitInsecure(insecureRegistries).hosts.includes(host);
  const own = named?.credentials;
  return {
    url,
    connection: connectionOf({ verifyTls, ...(tls === undefined ? {} : { tls }) }),
    ...(own?.kind === 'password' ? { authorization: basicAuthorization(own.username, own.password) } : {}),
  };
}
