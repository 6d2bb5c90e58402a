/** The gRPC service Registries: log-in, search, and what is configured. */
import type { RegistriesService } from '@flotilla/contracts/flotilla/registry/v1/registries';
import { type AuthConfig, authConfig, decodeDocument } from '@flotilla/engine-api';
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import type { Handlers } from '@flotilla/service-kit';
import { credentialsFromHeader } from '../credentials.ts';
import type { Registries } from '../operations.ts';

export function registriesHandlers(parts: Registries): Handlers<typeof RegistriesService> {
  return {
    checkAuth: async (request, call) => parts.login.check(readAuthConfig(request.authJson), call.signal),
    search: async (request, call) => {
      const results = await parts.search.find(
        {
          term: request.term,
          limit: request.limit === 0 ? undefined : request.limit,
          filters: request.filters,
          credentials: credentialsFromHeader(request.registryAuth),
        },
        call.signal,
      );
      return { resultsJson: Buffer.from(JSON.stringify(results)) };
    },
    info: async () => ({ registryConfigJson: Buffer.from(JSON.stringify(await parts.info())) }),
  };
}

function readAuthConfig(bytes: Uint8Array): AuthConfig {
  try {
    return decodeDocument(authConfig, Buffer.from(bytes).toString('utf8')) ?? {};
  } catch (cause) {
    throw new InvalidParameter(`invalid JSON: ${errorMessage(cause)}`, { cause });
  }
}
