export { chainIds, nextChainId } from './chainId.ts';
export { contentDigest, type Descriptor, parseDescriptor } from './descriptor.ts';
export { type Digest, DigestVerifier, digestAlgorithm, digestHex, digestOf, isDigest, parseDigest, shortDigest } from './digest.ts';
export { InvalidContent, InvalidName } from './errors.ts';
export {
  type ContainerDefaults,
  type Healthcheck,
  type HistoryEntry,
  type ImageConfig,
  maxConfigBytes,
  parseContainerDefaults,
  parseImageConfig,
} from './imageConfig.ts';
export { chooseManifest, type ImageIndex, parseIndex } from './imageIndex.ts';
export { type Manifest, maxLayers, maxManifestBytes, parseManifest } from './manifest.ts';
export {
  acceptedManifestTypes,
  bareMediaType,
  type Compression,
  isForeignLayerType,
  isImageConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  layerCompression,
  mediaTypes,
  sniffCompression,
} from './mediaTypes.ts';
export {
  formatPlatform,
  hostPlatform,
  normalisePlatform,
  type Platform,
  parsePlatform,
  platformMatches,
  platformRank,
} from './platform.ts';
export {
  familiarMatch,
  familiarName,
  familiarString,
  parseAnyReference,
  parseReference,
  type Reference,
  referenceString,
  repositoryName,
  withDefaultTag,
  withDigest,
  withTag,
} from './reference.ts';
export type {
  RuntimeCapabilities,
  RuntimeDevice,
  RuntimeDeviceRule,
  RuntimeHook,
  RuntimeHooks,
  RuntimeIdMapping,
  RuntimeLinux,
  RuntimeMount,
  RuntimeNamespace,
  RuntimeNamespaceType,
  RuntimeProcess,
  RuntimeResources,
  RuntimeSeccomp,
  RuntimeSpec,
  RuntimeState,
  RuntimeSyscallRule,
  RuntimeThrottle,
  RuntimeUser,
} from './runtimeSpec.ts';
