/** One plugin, called by dockerd's protocol: a POST a method, JSON both ways, `Err` in the answer where it failed. */
import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorMessage, System } from '@flotilla/errors';
import { http } from '@flotilla/service-kit/http';
import { hasCode } from '@flotilla/syscalls';
import { z } from 'zod';
import type { PluginAddress, PluginTls } from './pluginDirectory.ts';

const contentType = 'application/vnd.docker.plugins.v1.2+json';
const timeoutMs = 120_000;
const maxAnswerBytes = 16 * 1024 * 1024;
/** A plugin that is just starting, or again, is waited for. */
const retryDelaysMs = [100, 200, 400, 800];

const activation = z.object({ Implements: z.array(z.string()).nullish() });
/** `Error` is what address plugins call it. */
const failure = z.object({ Err: z.string().nullish(), Error: z.string().nullish() });

/** The plugin answers, and lacks that method. */
export class NoSuchMethod extends System {}

export class PluginClient {
  private readonly address: PluginAddress;
  private activated: Promise<readonly string[]> | undefined;

  constructor(address: PluginAddress) {
    this.address = address;
  }

  /** What it says it is: VolumeDriver, NetworkDriver … Asked once. */
  implements(): Promise<readonly string[]> {
    this.activated ??= this.call('Plugin.Activate', {}, activation).then(({ Implements }) => Implements ?? []);
    this.activated.catch(() => {
      this.activated = undefined;
    });
    return this.activated;
  }

  /**
   * @param mark - put before what the plugin says went wrong.
   * @throws System with the plugin's own words, or for one that is not there, with the network's; NoSuchMethod.
   */
  async call<T>(method: string, body: object, answer: z.ZodType<T>, mark = ''): Promise<T> {
    const { status, text } = await this.post(method, JSON.stringify(body));
    const document = parse(text);
    const { Err, Error: error } = failure.catch({}).parse(document ?? {});
    const complaint = Err || error;
    if (status !== 200) {
      const Failure = status === 404 ? NoSuchMethod : System;
      throw new Failure(`${method}: ${complaint || text.trim() || `status ${status}`}`);
    }
    if (complaint) throw new System(mark + complaint);
    const parsed = answer.safeParse(document);
    if (!parsed.success) throw new System(`${method}: the plugin's answer makes no sense`, { cause: parsed.error });
    return parsed.data;
  }

  private async post(method: string, body: string): Promise<{ status: number; text: string }> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.postOnce(method, body);
      } catch (error) {
        const delay = retryDelaysMs[attempt];
        if (delay === undefined || !hasCode(error, 'ENOENT', 'ECONNREFUSED')) throw this.unreachable(method, error);
        await sleep(delay);
      }
    }
  }

  private unreachable(method: string, error: unknown): System {
    const { address } = this;
    const [scheme, place] = address.kind === 'unix' ? ['unix', address.path] : ['tcp', `${address.host}:${address.port}`];
    const reason = hasCode(error, 'ECONNREFUSED')
      ? 'connect: connection refused'
      : hasCode(error, 'ENOENT')
        ? 'connect: no such file or directory'
        : errorMessage(error);
    return new System(`Post "http://${encodeURIComponent(place)}/${method}": dial ${scheme} ${place}: ${reason}`, { cause: error });
  }

  private postOnce(method: string, body: string): Promise<{ status: number; text: string }> {
    const { address } = this;
    // Of the whole call: a plugin that says a little now and then gets no more.
    const signal = AbortSignal.timeout(timeoutMs);
    const options: RequestOptions = {
      method: 'POST',
      headers: { 'content-type': contentType, accept: contentType, 'content-length': Buffer.byteLength(body), host: 'plugin' },
      signal,
      agent: false,
      ...(address.kind === 'unix'
        ? { socketPath: address.path, path: `/${method}` }
        : { host: address.host, port: address.port, path: `${address.path}/${method}` }),
    };
    const isTls = address.kind === 'tcp' && address.tls !== undefined;
    return new Promise((resolve, reject) => {
      const call = isTls ? httpsRequest({ ...options, ...tlsOptions(address.tls ?? {}) }) : http.request(options);
      const fail = (error: Error): void => reject(signal.aborted ? new Error(`no answer within ${timeoutMs / 1_000} seconds`) : error);
      call.on('error', fail);
      call.on('response', (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxAnswerBytes) call.destroy(new Error('the answer is too long'));
          else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }));
      });
      call.end(body);
    });
  }
}

function tlsOptions({ caFile, certFile, keyFile, insecureSkipVerify }: PluginTls): object {
  return {
    ...(caFile ? { ca: readFileSync(caFile) } : {}),
    ...(certFile ? { cert: readFileSync(certFile) } : {}),
    ...(keyFile ? { key: readFileSync(keyFile) } : {}),
    rejectUnauthorized: insecureSkipVerify !== true,
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
