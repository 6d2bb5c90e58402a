/**
 * How a stack reaches the proxy of its lab. Its certificate, who the stack is to it and its time limits are in the upstreams file, under the proxy's own
 * HOST:PORT; certificates may also be where dockerd looks for them. Both are read again when they change.
 */
import { InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { RegistryProxySettings } from './config.ts';
import { CertificateFolder } from './upstream/certificateFolder.ts';
import { type Connection, connectionOf } from './upstream/connection.ts';
import { defaultUrlOf, type Endpoint, splitInsecure } from './upstream/endpoints.ts';
import { LiveUpstreams } from './upstream/liveUpstreams.ts';
import { basicAuthorization } from './upstream/tokens.ts';
import type { Upstreams } from './upstream/upstreamsFile.ts';

export interface Lab {
  /** `https://registry.lab:5000`, without a slash at the end. */
  readonly url: string;
  readonly connection: Connection;
  /** The header Authorization for it. */
  readonly authorization?: string;
}

export class LabLink {
  private readonly url: string;
  private readonly host: string;
  private readonly verifiesByDefault: boolean;
  private readonly certificates: CertificateFolder;
  private live: LiveUpstreams | undefined;
  private named: Endpoint | undefined;

  private constructor(address: string, settings: RegistryProxySettings) {
    this.url = address.replace(/\/+$/, '');
    this.host = new URL(this.url).host;
    this.verifiesByDefault = !splitInsecure(settings.FLOTILLA_ENGINE_OPTIONS.insecureRegistries).hosts.includes(this.host);
    this.certificates = new CertificateFolder(settings.FLOTILLA_REGISTRY_CERTIFICATES);
  }

  /** @throws InvalidParameter, UpstreamAway when files cannot be used. */
  static async open(address: string, settings: RegistryProxySettings, logger: Logger): Promise<LabLink> {
    const link = new LabLink(address, settings);
    const file = settings.FLOTILLA_ENGINE_OPTIONS.upstreamsFile;
    if (file !== undefined) {
      const use = (upstreams: Upstreams): void => {
        link.named = link.entryIn(upstreams, file);
      };
      link.live = await LiveUpstreams.open({ file, flagged: [], use, logger });
    }
    await link.current();
    return link;
  }

  /** What of the file counts here; all else would be the lab's proxy's to do. */
  private entryIn({ named, ownPrefixes }: Upstreams, file: string): Endpoint | undefined {
    const others = [...named.keys()].filter((name) => name !== this.host).map((name) => `upstreams.${name}`);
    if (ownPrefixes !== undefined) others.push('ownPrefixes');
    const entry = named.get(this.host);
    const at = `upstreams.${this.host}`;
    if (entry !== undefined) {
      if (entry.mirrors.length > 0) others.push(`${at}.mirrors`);
      if (entry.concurrency !== undefined) others.push(`${at}.concurrency`);
      if (![defaultUrlOf(this.host), this.url].includes(entry.endpoint.base)) others.push(`${at}.url`);
    }
    if (others.length === 0) return entry?.endpoint;
    throw new InvalidParameter(
      `${file}: ${others.join(', ')}: to be told to the proxy that --registry-proxy names, not to a stack that uses it`,
    );
  }

  /** @throws UpstreamAway when there are certificates that cannot be used. */
  async current(): Promise<Lab> {
    const { named, url } = this;
    const tls = named?.tls ?? (await this.certificates.of(this.host));
    const verifyTls = named?.verifyTls ?? this.verifiesByDefault;
    const own = named?.credentials;
    return {
      url,
      connection: connectionOf({
        verifyTls,
        ...(tls === undefined ? {} : { tls }),
        ...(named?.limits === undefined ? {} : { limits: named.limits }),
      }),
      ...(own?.kind === 'password' ? { authorization: basicAuthorization(own.username, own.password) } : {}),
    };
  }

  /** Reads the files again. */
  async reload(): Promise<void> {
    this.certificates.forget();
    await this.live?.reload();
  }

  close(): void {
    this.live?.close();
  }
}
