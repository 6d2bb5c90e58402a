/** What a build shows to registries: by domain, in the form of X-Registry-Auth; empty: nothing. */
export type Credentials = (domain: string) => Promise<string>;

const dockerHub = 'https://index.docker.io/v1/';

/** Those of the classic API: all that the client has, by the names that it knows registries by. */
export function credentialsOf(all: ReadonlyMap<string, unknown>): Credentials {
  return async (domain) => {
    const own = all.get(domain) ?? (domain === 'docker.io' ? all.get(dockerHub) : undefined) ?? all.get(`https://${domain}`);
    return own === undefined ? '' : encodeCredentials(own);
  };
}

export function encodeCredentials(credentials: unknown): string {
  return Buffer.from(JSON.stringify(credentials)).toString('base64url');
}
