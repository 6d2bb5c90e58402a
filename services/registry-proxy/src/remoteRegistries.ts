/** Log-ins, searches and settings of a lab's proxy, asked over HTTP (http/operations.ts). */
import type { RegistryServiceConfig, SearchResult } from '@flotilla/engine-api';
import { errorMessage, isErrorKind, makeError, System } from '@flotilla/errors';
import { credentialsHeader } from './credentials.ts';
import type { SearchBody } from './http/operations.ts';
import type { Lab } from './lab.ts';
import type { LoginResult } from './login.ts';
import type { Registries } from './operations.ts';
import { readBody, type Sender } from './upstream/transport.ts';

const maxAnswerBytes = 8 * 1024 * 1024;

export function remoteRegistries(lab: () => Promise<Lab>, sender: Sender): Registries {
  const ask = async (method: 'GET' | 'POST', path: string, document: unknown, signal: AbortSignal | undefined): Promise<unknown> => {
    const { url: base, connection, authorization } = await lab();
    const body = document === undefined ? undefined : Buffer.from(JSON.stringify(document));
    let status: number;
    let answer: unknown;
    try {
      const response = await sender.send({
        method,
        url: new URL(`${base}/flotilla/v1/${path}`),
        headers: {
          ...(authorization === undefined ? {} : { authorization }),
          ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': String(body.length) }),
        },
        ...connection,
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
    // The second is the gate's: the stack itself is not let in.
    const { kind, message, errors } = answer as { kind?: unknown; message?: unknown; errors?: { message?: unknown }[] };
    throw makeError(typeof kind === 'string' && isErrorKind(kind) ? kind : 'System', String(message ?? errors?.[0]?.message));
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
