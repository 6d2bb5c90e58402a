/**
 * Certificates where dockerd looks for them, for registries that no upstreams file speaks of:
 *
 *   <root>/<host:port>/*.crt              authorities
 *   <root>/<host:port>/<name>.cert, .key  our certificate and its key
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage } from '@flotilla/errors';
import { UpstreamAway } from '../distributionError.ts';
import { type TlsIdentity, tlsIdentity } from './connection.ts';

const lookAgainMs = 10_000;
const maxHosts = 1000;

export class CertificateFolder {
  private readonly root: string;
  private readonly known = new Map<string, { readonly identity: TlsIdentity | undefined; readonly until: number }>();

  constructor(root: string) {
    this.root = root;
  }

  /** @throws UpstreamAway when there are files that cannot be used, in dockerd's words. */
  async of(host: string): Promise<TlsIdentity | undefined> {
    const known = this.known.get(host);
    if (known !== undefined && known.until > Date.now()) return known.identity;
    const identity = await this.read(host);
    if (this.known.size >= maxHosts) this.known.clear();
    this.known.set(host, { identity, until: Date.now() + lookAgainMs });
    return identity;
  }

  /** Looks again at the next request. */
  forget(): void {
    this.known.clear();
  }

  private async read(host: string): Promise<TlsIdentity | undefined> {
    // A host is a path component here, and a registry's name is whatever a client wrote.
    if (!/^[A-Za-z0-9[][A-Za-z0-9.:[\]-]*$/.test(host)) return undefined;
    const folder = join(this.root, host);
    let names: string[];
    try {
      names = (await readdir(folder)).sort();
    } catch (error) {
      // EACCES: /etc/docker is root's alone on many hosts, whether there are certificates in it or not.
      if (['ENOENT', 'ENOTDIR', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
      throw unusable(folder, error);
    }
    const authorities = names.filter((name) => name.endsWith('.crt'));
    const [certificate, ...more] = names.filter((name) => name.endsWith('.cert'));
    const key = names.find((name) => name.endsWith('.key'));
    if (more.length > 0) throw unusable(folder, 'more than one client certificate');
    const wanted = certificate?.replace(/\.cert$/, '.key');
    if (wanted !== undefined && !names.includes(wanted))
      throw unusable(folder, `missing key ${wanted} for client certificate ${certificate}`);
    if (certificate === undefined && key !== undefined) {
      throw unusable(folder, `missing client certificate ${key.replace(/\.key$/, '.cert')} for key ${key}`);
    }
    const text = (name: string): Promise<string> => readFile(join(folder, name), 'utf8');
    try {
      return tlsIdentity({
        ...(authorities.length === 0 ? {} : { ca: (await Promise.all(authorities.map(text))).join('\n') }),
        ...(certificate === undefined || wanted === undefined ? {} : { certificate: await text(certificate), key: await text(wanted) }),
      });
    } catch (error) {
      throw unusable(folder, error);
    }
  }
}

function unusable(folder: string, reason: unknown): UpstreamAway {
  return new UpstreamAway(`certificates in ${folder}: ${typeof reason === 'string' ? reason : errorMessage(reason)}`, {
    status: 502,
    cause: reason,
  });
}
