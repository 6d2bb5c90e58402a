/**
 * Which data root of a fleet keeps the proxy's own repositories. One does, so that names, tags and deletions are the same whichever replica is
 * asked; the others pass changes on and cache what is read. The first replica that comes makes it its own, Redis tells the others, and each
 * remembers it on its disk, so that a Redis that lost everything changes nothing.
 */
import { join } from 'node:path';
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { readIfThere, writeDurably } from '../cache/durableFile.ts';

export interface OwnHomeParts {
  /** The data root; what is remembered is in `own-home` there. */
  readonly root: string;
  /** The data root, by a hash. */
  readonly store: string;
  /** Whether this data root has own repositories. */
  readonly hasRepositories: () => Promise<boolean>;
  readonly logger: Logger;
}

export class OwnHome {
  private readonly parts: OwnHomeParts;
  private known: string | undefined;
  private isAgreed = false;

  private constructor(parts: OwnHomeParts, known: string | undefined) {
    this.parts = parts;
    this.known = known;
  }

  static async open(parts: OwnHomeParts): Promise<OwnHome> {
    const remembered = (await readIfThere(join(parts.root, 'own-home')))?.toString('utf8').trim();
    return new OwnHome(parts, (await parts.hasRepositories()) ? parts.store : remembered || undefined);
  }

  /** The data root that keeps them; undefined before anybody has said. */
  get store(): string | undefined {
    return this.known;
  }

  get isHere(): boolean {
    return this.known === this.parts.store;
  }

  /** What Redis is to note if it knows of none. */
  get candidate(): string {
    return this.known ?? this.parts.store;
  }

  /**
   * Hears which one Redis names.
   *
   * @returns whether Redis is wrong: it names another since it lost what it knew, and the repositories are here.
   * @throws InvalidParameter at the start, when there are repositories here and the fleet's are elsewhere.
   */
  async hear(named: string): Promise<boolean> {
    if (named !== this.known && this.isHere && (await this.parts.hasRepositories())) {
      if (this.isAgreed) return true;
      throw new InvalidParameter(
        'this data root has repositories of its own, but those of the replicas that share this Redis are kept on another: ' +
          'push them there and start with an empty data root, or run this one without that Redis',
      );
    }
    const isNew = !this.isAgreed || named !== this.known;
    this.isAgreed = true;
    this.known = named;
    if (isNew) await this.remember(named);
    return false;
  }

  private async remember(named: string): Promise<void> {
    this.parts.logger.info({ here: this.isHere }, 'it is known who keeps the own repositories');
    await writeDurably(join(this.parts.root, 'own-home'), `${named}\n`).catch((error: unknown) =>
      this.parts.logger.warn({ reason: errorMessage(error) }, 'cannot remember who keeps the own repositories'),
    );
  }
}
