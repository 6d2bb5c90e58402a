/** Certificates of an authority of one's own, made by openssl. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

export class Authority {
  readonly directory = mkdtempSync(join(tmpdir(), 'flotilla-registry-certificates-'));

  constructor(name = 'lab authority') {
    this.openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', `/CN=${name}`, '-days', '2');
  }

  get file(): string {
    return join(this.directory, 'ca.crt');
  }

  get ca(): string {
    return readFileSync(this.file, 'utf8');
  }

  /** A certificate for these names and for 127.0.0.1; its files are `<name>.crt` and `<name>.key`. */
  issue(name: string, subjects: readonly string[] = []): Pair {
    this.openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    const alternatives = ['IP:127.0.0.1', ...subjects.map((subject) => `DNS:${subject}`)].join(',');
    writeFileSync(join(this.directory, 'extensions'), `subjectAltName=${alternatives}\n`);
    const signing = ['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'];
    this.openssl(...signing, '-extfile', 'extensions', '-out', `${name}.crt`);
    return { certificate: this.read(`${name}.crt`), key: this.read(`${name}.key`) };
  }

  path(file: string): string {
    return join(this.directory, file);
  }

  private read(file: string): string {
    return readFileSync(this.path(file), 'utf8');
  }

  private openssl(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.directory, stdio: 'pipe' });
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
