/** What becomes of a result: an image with names, or files with the client. */
import type { Exporter } from '@flotilla/contracts/moby/buildkit/v1/control';
import { InvalidParameter, NotFound, NotImplemented } from '@flotilla/errors';
import { parseReference, type Reference, withDefaultTag } from '@flotilla/oci';
import type { Made } from '../build/builder.ts';
import { readEpoch } from '../build/sourceDateEpoch.ts';
import type { ImageStore } from '../imageStore.ts';
import { sendDirectory, sendTar } from './fileSend.ts';
import type { Job } from './job.ts';
import type { VertexHandle } from './progress.ts';
import type { Sessions } from './session.ts';

const imageTypes: ReadonlySet<string> = new Set(['moby', 'image', 'docker']);
const reportEveryMs = 100;

type Response = Readonly<Record<string, string>>;

/** @throws NotFound for an exporter that is not served; InvalidParameter, NotImplemented for a time that it cannot have. */
export function checkExporters(exporters: readonly Exporter[]): void {
  for (const { type, attrs } of exporters) {
    const isImage = imageTypes.has(type);
    if (!isImage && type !== 'local' && type !== 'tar') throw new NotFound(`exporter ${JSON.stringify(type)} could not be found`);
    const epoch = readEpoch(attrs['source-date-epoch'] ?? '');
    if (isImage && epoch !== undefined)
      throw new NotImplemented('source-date-epoch of an image is not supported: give the build the argument SOURCE_DATE_EPOCH');
  }
}

export class Exporters {
  private readonly store: ImageStore;
  private readonly sessions: Sessions;

  constructor(options: { store: ImageStore; sessions: Sessions }) {
    this.store = options.store;
    this.sessions = options.sessions;
  }

  /** Before the work. @throws Forbidden for names that are not the caller's. */
  check(exporters: readonly Exporter[]): void {
    for (const { type, attrs } of exporters) {
      if (imageTypes.has(type)) for (const reference of toReferences(attrs.name ?? '')) this.store.requireName(reference);
    }
  }

  /** @returns what the client is told of it. */
  async export(job: Job, made: Made, exporters: readonly Exporter[]): Promise<Response> {
    let response: Response = {};
    for (const [index, exporter] of exporters.entries()) {
      response = {
        ...response,
        ...(imageTypes.has(exporter.type) ? await this.asImage(job, made, exporter) : await this.asFiles(job, made, exporter, index)),
      };
    }
    return response;
  }

  private asImage(job: Job, { image }: Made, { attrs }: Exporter): Promise<Response> {
    return job.progress.during('exporting to image', async (vertex) => {
      const references = toReferences(attrs.name ?? '');
      for (const reference of references) this.store.requireName(reference, image);
      vertex.note('exporting layers');
      vertex.note(`writing image ${image.id}`);
      if (references.length === 0) await this.store.show(image);
      const names: string[] = [];
      for (const reference of references) {
        await this.store.tag(image, reference);
        const name = `${reference.domain}/${reference.path}:${reference.tag}`;
        vertex.note(`naming to ${name}`);
        names.push(name);
      }
      return {
        'containerimage.digest': image.id,
        'containerimage.config.digest': image.id,
        ...(names.length === 0 ? {} : { 'image.name': names.join(',') }),
      };
    });
  }

  private async asFiles(job: Job, { image, roots, epoch }: Made, { type, attrs }: Exporter, index: number): Promise<Response> {
    const written = attrs['source-date-epoch'];
    const time = written === undefined ? epoch : readEpoch(written);
    const session = await this.sessions.wait(job.sessionId, job.signal);
    const root = roots.view(image.layers);
    const [title, send] =
      type === 'tar' ? (['exporting to client tarball', sendTar] as const) : (['exporting to client directory', sendDirectory] as const);
    return job.progress.during(title, async (vertex) => {
      const report = reporter(vertex, type === 'tar' ? 'sending tarball' : 'copying files');
      const signal = AbortSignal.any([job.signal, session.connection.closed]);
      await send(session.connection, { exporter: index, root, time, heard: report.heard, signal });
      report.end();
      return {};
    });
  }
}

function reporter(vertex: VertexHandle, id: string): { heard: (bytes: number) => void; end: () => void } {
  let current = 0;
  let shown = 0;
  const bar = (isComplete: boolean): void => vertex.bar({ id, name: 'transferring', current, total: 0, isComplete });
  return {
    heard: (bytes) => {
      current = bytes;
      if (Date.now() - shown < reportEveryMs) return;
      shown = Date.now();
      bar(false);
    },
    end: () => bar(true),
  };
}

function toReferences(names: string): Reference[] {
  return names
    .split(',')
    .filter(Boolean)
    .map((name) => {
      const reference = parseReference(name);
      if (reference.digest !== undefined) throw new InvalidParameter('build tag cannot contain a digest');
      return withDefaultTag(reference);
    });
}
