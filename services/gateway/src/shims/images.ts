/** What older API versions expect in the answers about images. */
import { compareVersions } from '../http/apiVersion.ts';
import { parseDocument, parseDocuments } from './containerAnswers.ts';

/** ImageList: before 1.48 no descriptor, before 1.44 VirtualSize, before 1.43 `<none>` for an image without names. */
export function shimImageList(bytes: Uint8Array, version: string): unknown {
  const older = (than: string): boolean => compareVersions(version, than) < 0;
  if (!older('1.48')) return bytes;
  const images = parseDocuments(bytes);
  for (const image of images) {
    delete image.Descriptor;
    if (older('1.44')) image.VirtualSize = image.Size;
    if (older('1.43') && isEmpty(image.RepoTags) && isEmpty(image.RepoDigests)) {
      image.RepoTags = ['<none>:<none>'];
      image.RepoDigests = ['<none>@<none>'];
    }
  }
  return images;
}

function isEmpty(list: unknown): boolean {
  return !Array.isArray(list) || list.length === 0;
}

/** What an image's Config showed of a container's before 1.50, whatever the image said. */
const legacyConfig = {
  Hostname: '',
  Domainname: '',
  User: '',
  AttachStdin: false,
  AttachStdout: false,
  AttachStderr: false,
  Tty: false,
  OpenStdin: false,
  StdinOnce: false,
  Env: null,
  Cmd: null,
  Image: '',
  Volumes: null,
  WorkingDir: '',
  Entrypoint: null,
  OnBuild: null,
  Labels: null,
};

/** ImageInspect: before 1.50 all of Config's fields, before 1.48 no descriptor, before 1.44 VirtualSize and a Created date. */
export function shimImageInspect(bytes: Uint8Array, version: string): unknown {
  const older = (than: string): boolean => compareVersions(version, than) < 0;
  if (!older('1.50')) return bytes;
  const image = parseDocument(bytes);
  if (typeof image.Config === 'object' && image.Config !== null) image.Config = { ...legacyConfig, ...image.Config };
  if (older('1.48')) {
    delete image.Descriptor;
    delete image.Manifests;
  }
  if (older('1.44')) {
    image.VirtualSize = image.Size;
    if (!image.Created) image.Created = '0001-01-01T00:00:00Z';
  }
  if (older('1.45')) {
    image.Container ??= '';
    // What the image was committed from. The oldest Compose reads an image's volumes here.
    image.ContainerConfig ??= image.Config ?? legacyConfig;
  }
  return image;
}
