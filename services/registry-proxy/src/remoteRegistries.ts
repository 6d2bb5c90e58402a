/** Log-ins, searches and settings of a lab's proxy, asked over HTTP (http/operations.ts). */
import type { RegistryServiceConfig, SearchResult } from '@flotilla/engine-api';
import { errorMessage, isErrorKind, makeError, System } from '@flotilla/errors';
import { credentialsHeader } from './credentials.ts';
import type { SearchBody } from './http/operations.ts';
import type { LoginResult } from './login.ts';
import type { Registries } from './operations.ts';
import { readBody, type Sender } from './upstream/transport.ts';

const maxAnswerBytes = 8 * 1024 * 1024;

/** @param base - `http://host:port` of the lab's proxy. */
export function remoteRegistries(base: string, sender: Sender): Registries {
  const ask = async (method: 'GET' | 'POST', path: string, document: unknown, signal: AbortSignal | undefined): Promise<unknown> => {
    const body = document === undefined ? undefined : Buffer.from(JSON.stringify(document));
    let status: number;
    let answer: unknown;
    try {
      const response = await sender.send({
        method,
        url: new URL(`${base.replace(/\/+$/, '')}/flotilla/v1/${path}`),
        headers: body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(body.length) },
        verifyTls: true,
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      });
      status = response.statusCode;
      answer = JSON.parse((await readBody(response, maxAnswerBytes)).toString('utf8'));
    } catch (cause) {
      signal?.throwIfAborted();
      throw new System(`the registry proxy at ${base} cannot be reached: ${errorMessage(cause)}`, { cause });
    }
    if (status === 200) return answer;
    const { kind, message } = answer as { kind?: unknown; message?: unknown };
    throw makeError(typeof kind === 'string' && isErrorKind(kind) ? kind : 'System', String(message));
  };
  return {
    login: { check: async (config, signal) => (await ask('POST', 'login', config, signal)) as LoginResult },
    search: {
      find: async ({ credentials, limit, ...rest }, signal) => {
        const wanted: SearchBody = { ...rest, ...(limit === undefined ? {} : { limit }), registryAuth: credentialsHeader(credentials) };
        return (await ask('POST', 'search', wanted, signal)) as SearchResult[];
      },
    },
    info: async () => (await ask('GET', 'info', undefined, undefined)) as RegistryServiceConfig,
  };
}
