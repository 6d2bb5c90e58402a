/** What a layer's blob is called, by how it is compressed. */
import { closeSync, openSync, readSync } from 'node:fs';
import { InvalidParameter } from '@flotilla/errors';
import { type Compression, mediaTypes, sniffCompression } from '@flotilla/oci';

const byCompression: Readonly<Record<Compression, string>> = {
  none: mediaTypes.ociLayer,
  gzip: mediaTypes.ociLayerGzip,
  zstd: mediaTypes.ociLayerZstd,
};

/** The media type of a layer in a file. @throws InvalidParameter for a compression that no layer has. */
export function layerMediaType(path: string): string {
  return byCompression[compressionOf(path)];
}

function compressionOf(path: string): Compression {
  const fd = openSync(path, 'r');
  try {
    const head = Buffer.alloc(4);
    readSync(fd, head, 0, 4, 0);
    const compression = sniffCompression(head);
    if (compression === 'xz' || compression === 'bzip2')
      throw new InvalidParameter(`layers compressed with ${compression} are not supported`);
    return compression;
  } finally {
    closeSync(fd);
  }
}
