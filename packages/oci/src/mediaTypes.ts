/** Media types of image content, docker's schema 2 and OCI's, and what they say of compression. */
export const mediaTypes = {
  dockerManifestList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerManifestV1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerManifestV1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar',
  dockerForeignLayerGzip: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  dockerPluginConfig: 'application/vnd.docker.plugin.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  ociForeignLayer: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  ociForeignLayerGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  ociForeignLayerZstd: 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
} as const;

/** What a pull accepts as the target of a tag, best first. */
export const acceptedManifestTypes: readonly string[] = [
  mediaTypes.dockerManifest,
  mediaTypes.dockerManifestList,
  mediaTypes.ociIndex,
  mediaTypes.ociManifest,
];

export type Compression = 'none' | 'gzip' | 'zstd';

const layers: Readonly<Record<string, { compression: Compression; foreign: boolean }>> = {
  [mediaTypes.dockerLayer]: { compression: 'none', foreign: false },
  [mediaTypes.dockerLayerGzip]: { compression: 'gzip', foreign: false },
  [mediaTypes.dockerLayerZstd]: { compression: 'zstd', foreign: false },
  [mediaTypes.dockerForeignLayer]: { compression: 'none', foreign: true },
  [mediaTypes.dockerForeignLayerGzip]: { compression: 'gzip', foreign: true },
  [mediaTypes.ociLayer]: { compression: 'none', foreign: false },
  [mediaTypes.ociLayerGzip]: { compression: 'gzip', foreign: false },
  [mediaTypes.ociLayerZstd]: { compression: 'zstd', foreign: false },
  [mediaTypes.ociForeignLayer]: { compression: 'none', foreign: true },
  [mediaTypes.ociForeignLayerGzip]: { compression: 'gzip', foreign: true },
  [mediaTypes.ociForeignLayerZstd]: { compression: 'zstd', foreign: true },
};

/** The media type without parameters, in lower case. */
export function bareMediaType(value: string): string {
  return (value.split(';', 1)[0] ?? '').trim().toLowerCase();
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerManifestList;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociManifest || mediaType === mediaTypes.dockerManifest;
}

export function isImageConfigType(mediaType: string): boolean {
  return mediaType === mediaTypes.ociConfig || mediaType === mediaTypes.dockerConfig;
}

export function isLayerType(mediaType: string): boolean {
  return Object.hasOwn(layers, mediaType);
}

/** A layer that registries need not hold and pushes leave out. */
export function isForeignLayerType(mediaType: string): boolean {
  return layers[mediaType]?.foreign === true;
}

/** The compression a layer's media type claims; undefined when it is no layer type. */
export function layerCompression(mediaType: string): Compression | undefined {
  return layers[mediaType]?.compression;
}

/** The compression that bytes really have, by their first four. */
export function sniffCompression(head: Uint8Array): Compression | 'bzip2' | 'xz' {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip';
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return 'zstd';
  // zstd's skippable frames
  if (head[0] !== undefined && head[0] >= 0x50 && head[0] <= 0x5f && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18)
    return 'zstd';
  if (head[0] === 0x42 && head[1] === 0x5a && head[2] === 0x68) return 'bzip2';
  if (head[0] === 0xfd && head[1] === 0x37 && head[2] === 0x7a && head[3] === 0x58) return 'xz';
  return 'none';
}
