/**
 * Where plugins are found, by dockerd's rules: a folder holds for each
 *
 * ```
 * NAME.sock or NAME/NAME.sock   the socket it serves
 * NAME.spec                     a line with its address: unix:///path or tcp://host:port
 * NAME.json                     {"Name", "Addr", "TLSConfig": {"CAFile", "CertFile", "KeyFile", "InsecureSkipVerify"}}
 * ```
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { InvalidParameter } from '@flotilla/errors';
import { z } from 'zod';

export interface PluginTls {
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
  readonly insecureSkipVerify?: boolean;
}

export type PluginAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number; readonly path: string; readonly tls?: PluginTls };

/** A driver's name becomes a file's: nothing else is let through. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}$/;

const description = z.object({
  Addr: z.string(),
  TLSConfig: z
    .object({
      CAFile: z.string().optional(),
      CertFile: z.string().optional(),
      KeyFile: z.string().optional(),
      InsecureSkipVerify: z.boolean().optional(),
    })
    .nullish(),
});

export class PluginDirectory {
  private readonly folders: readonly string[];

  constructor(folders: readonly string[]) {
    this.folders = folders;
  }

  /** @returns undefined when no folder has it. @throws InvalidParameter for a file that says nothing sensible. */
  find(name: string): PluginAddress | undefined {
    if (!namePattern.test(name)) return undefined;
    for (const folder of this.folders) {
      for (const path of [join(folder, `${name}.sock`), join(folder, name, `${name}.sock`)])
        if (isSocket(path)) return { kind: 'unix', path };
      for (const base of [join(folder, name), join(folder, name, name)]) {
        const spec = textOf(`${base}.spec`);
        if (spec !== undefined) return addressOf(spec.trim(), `${base}.spec`);
        const json = textOf(`${base}.json`);
        if (json !== undefined) return described(json, `${base}.json`);
      }
    }
    return undefined;
  }

  names(): string[] {
    const found = new Set<string>();
    for (const folder of this.folders) {
      for (const entry of entriesOf(folder)) {
        const name = entry.replace(/\.(sock|spec|json)$/, '');
        if (name !== entry || this.find(name) !== undefined) found.add(name);
      }
    }
    return [...found].filter((name) => namePattern.test(name)).sort();
  }
}

function described(json: string, file: string): PluginAddress {
  try {
    const { Addr, TLSConfig } = description.parse(JSON.parse(json));
    const tls = TLSConfig ?? undefined;
    return addressOf(Addr, file, {
      ...(tls?.CAFile === undefined ? {} : { caFile: tls.CAFile }),
      ...(tls?.CertFile === undefined ? {} : { certFile: tls.CertFile }),
      ...(tls?.KeyFile === undefined ? {} : { keyFile: tls.KeyFile }),
      ...(tls?.InsecureSkipVerify === undefined ? {} : { insecureSkipVerify: tls.InsecureSkipVerify }),
    });
  } catch (error) {
    throw new InvalidParameter(`invalid plugin description ${file}`, { cause: error });
  }
}

function addressOf(text: string, file: string, tls: PluginTls = {}): PluginAddress {
  if (text.startsWith('unix://')) return { kind: 'unix', path: text.slice('unix://'.length) };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const port = Number(url?.port || (url?.protocol === 'https:' ? 443 : 80));
  if (url === undefined || !['tcp:', 'http:', 'https:'].includes(url.protocol) || url.hostname === '') {
    throw new InvalidParameter(`unknown protocol in plugin description ${file}: ${text.slice(0, 80)}`);
  }
  const isTls = url.protocol === 'https:' || Object.keys(tls).length > 0;
  return {
    kind: 'tcp',
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    path: url.pathname.replace(/\/$/, ''),
    ...(isTls ? { tls } : {}),
  };
}

function isSocket(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isSocket() ?? false;
}

function textOf(path: string): string | undefined {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path, 'utf8') : undefined;
}

function entriesOf(folder: string): string[] {
  return statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(folder) : [];
}
