/** Names and passwords of those who may use the proxy: an htpasswd file with bcrypt hashes (`htpasswd -nB NAME`), read again when it changes. */
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { compare, hashSync } from 'bcryptjs';
import { FollowedFiles } from '../followedFiles.ts';
import { Slots } from '../slots.ts';

const bcryptPattern = /^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/;
const maxKnown = 10_000;

export class Htpasswd {
  private readonly file: string;
  private readonly logger: Logger;
  private readonly files = new FollowedFiles(() => this.reload());
  private hashes: ReadonlyMap<string, string>;
  /** Pairs that were right: a hash takes a tenth of a second, and every request of a pull brings its pair. */
  private readonly right = new Set<string>();
  private readonly secret = randomBytes(32);
  /** One at a time, so that a flood of wrong passwords leaves the processor to others. */
  private readonly slots = new Slots(() => 1);
  /** Compared with where there is no such name, so that the time taken tells nothing. */
  private readonly nobody = hashSync(randomBytes(16).toString('hex'), 10);

  /** @throws InvalidParameter when the file cannot be used. */
  constructor(file: string, logger: Logger) {
    this.file = file;
    this.logger = logger;
    this.hashes = readHashes(file);
    this.files.follow([file]);
  }

  /** Reads the file again; a wrong one leaves what was in force. */
  reload(): void {
    try {
      this.hashes = readHashes(this.file);
      this.right.clear();
      this.logger.info({ file: this.file }, 'passwords read again');
    } catch (error) {
      this.logger.error({ file: this.file, reason: errorMessage(error) }, 'the passwords before stay in force');
    }
  }

  async isRight(name: string, password: string): Promise<boolean> {
    const { hashes } = this;
    const hash = hashes.get(name);
    const pair = createHmac('sha256', this.secret)
      .update(JSON.stringify([name, password]))
      .digest('base64');
    if (hash !== undefined && this.right.has(pair)) return true;
    const give = await this.slots.take('');
    try {
      const same = await compare(password, hash ?? this.nobody);
      if (!same || hash === undefined) return false;
      if (this.right.size >= maxKnown) this.right.clear();
      if (this.hashes === hashes) this.right.add(pair);
      return true;
    } finally {
      give();
    }
  }

  close(): void {
    this.files.close();
  }
}

function readHashes(file: string): Map<string, string> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new InvalidParameter(errorMessage(cause), { cause });
  }
  const hashes = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    const hash = line.slice(colon + 1).trim();
    if (colon < 1 || !bcryptPattern.test(hash)) {
      throw new InvalidParameter(`${file}: line ${index + 1}: must be NAME:HASH with a bcrypt hash (htpasswd -nB NAME)`);
    }
    hashes.set(line.slice(0, colon), hash);
  }
  return hashes;
}
