/** The listener's certificate and the authority of its clients, read again when they change; connections that stand keep theirs. */
import { readFileSync } from 'node:fs';
import type { Server } from 'node:https';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import { FollowedFiles } from '../followedFiles.ts';

export interface ListenerTlsFiles {
  readonly certificate: string;
  readonly key: string;
  /** Authority of client certificates; undefined: none is asked for. */
  readonly clientAuthority: string | undefined;
}

export class ListenerTls {
  private readonly files: ListenerTlsFiles;
  private readonly logger: Logger;
  private readonly followed = new FollowedFiles(() => this.reload());
  private server: Server | undefined;
  private current: SecureContextOptions;

  /** @throws InvalidParameter when the files cannot be used. */
  constructor(files: ListenerTlsFiles, logger: Logger) {
    this.files = files;
    this.logger = logger;
    this.current = readContext(files);
    const { certificate, key, clientAuthority } = files;
    this.followed.follow([certificate, key, ...(clientAuthority === undefined ? [] : [clientAuthority])]);
  }

  /** For https.createServer. Who shows no valid certificate is answered all the same: the gate says why they may not enter. */
  get options(): SecureContextOptions & { requestCert: boolean; rejectUnauthorized: false } {
    return { ...this.current, requestCert: this.files.clientAuthority !== undefined, rejectUnauthorized: false };
  }

  /** PEM of the certificate that is shown now. */
  get certificate(): string {
    return String(this.current.cert);
  }

  /** This server shows them from now on. */
  serve(server: Server): void {
    this.server = server;
  }

  reload(): void {
    try {
      this.current = readContext(this.files);
      this.server?.setSecureContext(this.current);
      this.logger.info('certificates read again');
    } catch (error) {
      // Half of a pair may be in place; the other half is another change.
      this.logger.error({ reason: errorMessage(error) }, 'the certificates before stay in force');
    }
  }

  close(): void {
    this.followed.close();
  }
}

function readContext({ certificate, key, clientAuthority }: ListenerTlsFiles): SecureContextOptions {
  try {
    const context = {
      cert: readFileSync(certificate, 'utf8'),
      key: readFileSync(key, 'utf8'),
      minVersion: 'TLSv1.2' as const,
      ...(clientAuthority === undefined ? {} : { ca: readFileSync(clientAuthority, 'utf8') }),
    };
    createSecureContext(context);
    return context;
  } catch (cause) {
    throw new InvalidParameter(`certificates of the listener: ${errorMessage(cause)}`, { cause });
  }
}
