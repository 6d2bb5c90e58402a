/** What older API versions expect in the answers about containers. Documents for the newest pass through as bytes. */
import { compareVersions } from '../http/apiVersion.ts';

type Document = Record<string, unknown>;

export function parseDocument(bytes: Uint8Array): Document {
  return JSON.parse(new TextDecoder().decode(bytes)) as Document;
}

export function parseDocuments(bytes: Uint8Array): Document[] {
  return JSON.parse(new TextDecoder().decode(bytes)) as Document[];
}

function isUserDefined(network: string): boolean {
  return !['default', 'bridge', 'host', 'none'].includes(network) && !network.startsWith('container:');
}

/**
 * ContainerInspect: before 1.48 no manifest descriptor; before 1.45 the short id is among the aliases, once the container has been joined to the network.
 * Compose 1 joins it anew, with all that was asked for, where it misses that id.
 */
export function shimContainerInspect(bytes: Uint8Array, version: string): Uint8Array | Document {
  if (compareVersions(version, '1.48') >= 0) return bytes;
  const document = parseDocument(bytes) as Document & {
    Id: string;
    Config?: { Hostname?: string };
    NetworkSettings?: { Networks?: Record<string, { Aliases?: string[] | null; DNSNames?: string[] | null }> };
  };
  delete document.ImageManifestDescriptor;
  if (compareVersions(version, '1.45') < 0) {
    for (const [name, endpoint] of Object.entries(document.NetworkSettings?.Networks ?? {})) {
      if (!isUserDefined(name) || !endpoint.DNSNames) continue;
      const more = [document.Id.slice(0, 12), document.Config?.Hostname].filter((alias) => alias !== undefined && alias !== '');
      endpoint.Aliases = [...new Set([...(endpoint.Aliases ?? []), ...more])] as string[];
    }
  }
  return document;
}

/** ContainerList: before 1.48 no manifest descriptor, before 1.46 no annotations. */
export function shimContainerList(bytes: Uint8Array, version: string): Uint8Array | Document[] {
  const holds = (field: string): boolean => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(`"${field}"`) >= 0;
  const descriptors = compareVersions(version, '1.48') < 0 && holds('ImageManifestDescriptor');
  const annotations = compareVersions(version, '1.46') < 0 && holds('Annotations');
  if (!descriptors && !annotations) return bytes;
  const documents = parseDocuments(bytes) as (Document & { HostConfig?: Document })[];
  for (const document of documents) {
    if (descriptors) delete document.ImageManifestDescriptor;
    if (annotations) delete document.HostConfig?.Annotations;
  }
  return documents;
}
