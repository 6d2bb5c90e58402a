/** Images for tests, made from Debian's static busybox: no network, the same digests every time on one machine. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { buildLayer, type Compression, type Layer, type LayerEntry, sha256 } from './layers.ts';

/** The `config` object of an image, in the words of the OCI image spec. */
export interface ImageRunConfig {
  readonly User?: string;
  readonly Env?: readonly string[];
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly WorkingDir?: string;
  readonly Volumes?: Readonly<Record<string, object>>;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
  readonly Labels?: Readonly<Record<string, string>>;
  readonly StopSignal?: string;
  readonly Healthcheck?: Readonly<Record<string, unknown>>;
}

export interface ImageOptions {
  readonly layers: readonly (readonly LayerEntry[])[];
  readonly config?: ImageRunConfig;
  readonly compression?: Compression;
  /** Media types of Docker's schema 2 or of OCI. Default docker; zstd layers are OCI in either case. */
  readonly format?: 'docker' | 'oci';
  readonly architecture?: string;
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string; readonly os: string };
}

export interface TestImage {
  /** `sha256:…` of the config: what `docker images` shows. */
  readonly id: string;
  readonly config: Buffer;
  readonly layers: readonly Layer[];
  readonly manifest: Buffer;
  readonly manifestDescriptor: Descriptor;
  /** Every blob by digest, the manifest among them. */
  readonly blobs: ReadonlyMap<string, Buffer>;
}

export const mediaTypes = {
  docker: {
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: {
      gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
      none: 'application/vnd.docker.image.rootfs.diff.tar',
      zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
    },
  },
  oci: {
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    index: 'application/vnd.oci.image.index.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: {
      gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
      none: 'application/vnd.oci.image.layer.v1.tar',
      zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
    },
  },
} as const;

const busyboxPath = '/bin/busybox';
const created = '2024-01-01T00:00:00Z';
let busyboxEntries: readonly LayerEntry[] | undefined;

/** The files of a small system: busybox with a hard link for each applet, accounts, and the empty directories programs expect. */
export function busyboxLayer(): readonly LayerEntry[] {
  busyboxEntries ??= makeBusyboxLayer();
  return busyboxEntries;
}

function makeBusyboxLayer(): readonly LayerEntry[] {
  const applets = execFileSync(busyboxPath, ['--list'], { encoding: 'utf8' })
    .split('\n')
    .filter((name) => name !== '' && name !== 'busybox');
  const directories = ['bin/', 'dev/', 'etc/', 'home/', 'proc/', 'sys/', 'usr/', 'usr/bin/', 'var/', 'var/log/'];
  return [
    ...directories.map((path) => ({ path })),
    { path: 'root/', mode: 0o700 },
    { path: 'tmp/', mode: 0o1777 },
    { path: 'bin/busybox', content: readFileSync(busyboxPath), mode: 0o755 },
    ...applets.map((name): LayerEntry => ({ path: `bin/${name}`, type: 'link', target: 'bin/busybox', mode: 0o755 })),
    { path: 'usr/bin/env', type: 'link', target: 'bin/busybox', mode: 0o755 },
    {
      path: 'etc/passwd',
      content:
        'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
    },
    { path: 'etc/group', content: 'root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nstaff:x:50:alice\nalice:x:1000:\nnogroup:x:65534:\n' },
    { path: 'home/alice/', uid: 1000, gid: 1000 },
  ];
}

/** busybox with `sh` as its command; more layers and other settings on top as asked. */
export function busyboxImage(options: Partial<ImageOptions> = {}): Promise<TestImage> {
  return buildImage({
    ...options,
    layers: [busyboxLayer(), ...(options.layers ?? [])],
    config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'], ...options.config },
  });
}

/** Makes an image of the given layers. */
export async function buildImage(options: ImageOptions): Promise<TestImage> {
  const compression = options.compression ?? 'gzip';
  const layers: Layer[] = [];
  for (const entries of options.layers) layers.push(await buildLayer(entries, compression));
  return assembleImage(layers, options);
}

/** Makes an image of layers that exist already (shared with another image, or damaged on purpose). */
export function assembleImage(layers: readonly Layer[], options: Omit<ImageOptions, 'layers'> = {}): TestImage {
  const types = mediaTypes[options.format ?? 'docker'];
  const config = Buffer.from(
    JSON.stringify({
      architecture: options.architecture ?? architecture(),
      os: 'linux',
      created,
      config: options.config ?? {},
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
      history: layers.map((_, index) => ({ created, created_by: `/bin/sh -c #(nop) ADD layer ${index} in /` })),
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: types.manifest,
      config: { mediaType: types.config, size: config.length, digest: sha256(config) },
      layers: layers.map((layer) => ({ mediaType: types.layer[layer.compression], size: layer.bytes.length, digest: layer.digest })),
    }),
  );
  const manifestDescriptor = {
    mediaType: types.manifest,
    digest: sha256(manifest),
    size: manifest.length,
    platform: { architecture: options.architecture ?? architecture(), os: 'linux' },
  };
  const blobs = new Map(layers.map((layer) => [layer.digest, layer.bytes]));
  blobs.set(sha256(config), config);
  blobs.set(manifestDescriptor.digest, manifest);
  return { id: sha256(config), config, layers, manifest, manifestDescriptor, blobs };
}

export interface TestIndex {
  readonly index: Buffer;
  readonly descriptor: Descriptor;
  readonly images: readonly TestImage[];
}

/** One name for images of several platforms. */
export function buildIndex(images: readonly TestImage[], format: 'docker' | 'oci' = 'oci'): TestIndex {
  const mediaType = mediaTypes[format].index;
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, manifests: images.map((image) => image.manifestDescriptor) }));
  return { index, images, descriptor: { mediaType, digest: sha256(index), size: index.length } };
}

/** This machine's architecture in Go's words. */
export function architecture(): string {
  const names: Readonly<Record<string, string>> = {
    x64: 'amd64',
    arm64: 'arm64',
    arm: 'arm',
    ppc64: 'ppc64le',
    s390x: 's390x',
    riscv64: 'riscv64',
  };
  return names[process.arch] ?? process.arch;
}
