/** The operator's file of upstreams in force: read at the start, again when it or a file it names changes, and when told to. */
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { FollowedFiles } from '../followedFiles.ts';
import { readUpstreams, type Upstreams } from './upstreamsFile.ts';

export interface LiveUpstreamsParts {
  readonly file: string;
  /** Registries that flags speak of: the file may not say otherwise. */
  readonly flagged: readonly string[];
  /** Takes what is in force from now on; what it throws refuses it. */
  readonly use: (upstreams: Upstreams) => void;
  readonly logger: Logger;
}

export class LiveUpstreams {
  private readonly parts: LiveUpstreamsParts;
  private readonly files = new FollowedFiles(() => void this.reload());
  private reading: Promise<void> = Promise.resolve();
  private current: Upstreams | undefined;

  private constructor(parts: LiveUpstreamsParts) {
    this.parts = parts;
  }

  /** @throws InvalidParameter when the file is wrong. */
  static async open(parts: LiveUpstreamsParts): Promise<LiveUpstreams> {
    const live = new LiveUpstreams(parts);
    await live.read();
    return live;
  }

  get concurrency(): (registry: string) => number | undefined {
    return (registry) => this.current?.named.get(registry)?.concurrency;
  }

  /** Reads the file again; a wrong one leaves what was in force. */
  reload(): Promise<void> {
    const { logger, file } = this.parts;
    this.reading = this.reading
      .then(() => this.read())
      .then(
        () => logger.info({ file }, 'upstreams read again'),
        (error: unknown) => logger.error({ file, reason: errorMessage(error) }, 'the upstreams before stay in force'),
      );
    return this.reading;
  }

  private async read(): Promise<void> {
    const { file, flagged, use } = this.parts;
    const upstreams = await readUpstreams(file);
    const twice = flagged.filter((name) => upstreams.named.has(name));
    if (twice.length > 0) throw new InvalidParameter(`${file}: ${twice.join(', ')}: named by a flag as well`);
    use(upstreams);
    this.current = upstreams;
    this.files.follow(upstreams.files);
  }

  close(): void {
    this.files.close();
  }
}
