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
  /** The data root; what is remembered is in `own/home` there, and goes with the repositories when they are moved. */
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
  private remembered: string | undefined;
  private isAgreed = false;

  private constructor(parts: OwnHomeParts) {
    this.parts = parts;
  }

  static async open(parts: OwnHomeParts): Promise<OwnHome> {
    const home = new OwnHome(parts);
    home.remembered = (await readIfThere(home.path))?.toString('utf8').trim() || undefined;
    home.known = (await parts.hasRepositories()) ? parts.store : home.remembered;
    return home;
  }

  private get path(): string {
    return join(this.parts.root, 'own', 'home');
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
   * @returns whether Redis is wrong: it lost what it knew, or means us by another name, and the repositories are here.
   * @throws InvalidParameter at the start, when there are repositories here and the fleet's are elsewhere.
   */
  async hear(named: string): Promise<boolean> {
    if (named !== this.known && this.isHere && (await this.parts.hasRepositories())) {
      // What is remembered beside repositories is the data root that they were on: this one, before it got another secret, or the one they came from.
      if (this.isAgreed || named === this.remembered) {
        await this.agree(this.parts.store);
        return true;
      }
      throw new InvalidParameter(
        'this data root has repositories of its own, but those of the replicas that share this Redis are kept on another: ' +
          'push them there and start with an empty data root, or run this one without that Redis',
      );
    }
    await this.agree(named);
    return false;
  }

  private async agree(store: string): Promise<void> {
    this.isAgreed = true;
    this.known = store;
    if (this.remembered === store) return;
    this.parts.logger.info({ here: this.isHere }, 'it is known who keeps the own repositories');
    try {
      await writeDurably(this.path, `${store}\n`);
      this.remembered = store;
    } catch (error) {
      this.parts.logger.warn({ reason: errorMessage(error) }, 'cannot remember who keeps the own repositories');
    }
  }
}
