/** Who did what, with which result: one JSON object a line. Bodies, headers and queries are never written: they hold secrets. */
import { createWriteStream, type WriteStream } from 'node:fs';
import type { Logger } from '@flotilla/service-kit';
import type { Identity } from '@flotilla/service-kit/rights';

export interface AuditEntry {
  readonly requestId: string;
  readonly identity: Identity;
  /** An operation's id; `none` for a path that is no operation. */
  readonly operation: string;
  readonly method: string;
  readonly object: string;
  /** Another host that was asked through this one. */
  readonly host?: string;
  readonly status: number;
  readonly durationMs: number;
}

export class AuditLog {
  private readonly file: WriteStream;

  constructor(path: string, logger: Logger) {
    this.file = createWriteStream(path, { flags: 'a', mode: 0o600 });
    this.file.on('error', (error) => logger.error({ error }, 'the audit log cannot be written'));
  }

  write(entry: AuditEntry): void {
    this.file.write(`${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`);
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.file.end(resolve));
  }
}
