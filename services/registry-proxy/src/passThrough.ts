/** What is asked of the upstream each time and kept by nobody: lists, and deletions. */
import type { Asker } from './access.ts';
import type { DistributionCode } from './distributionError.ts';
import { discard, type TransportResponse } from './upstream/transport.ts';
import type { Upstream } from './upstream/upstream.ts';

export class PassThrough {
  private readonly upstream: Upstream;

  constructor(upstream: Upstream) {
    this.upstream = upstream;
  }

  /** A list (`tags/list`, `referrers/<digest>`), its body to be read by the caller. */
  async list(asker: Asker, path: string, query: URLSearchParams): Promise<TransportResponse> {
    const passed = new URLSearchParams(query);
    passed.delete('ns');
    const search = passed.toString();
    const { response } = await this.upstream.request({
      ...asker,
      method: 'GET',
      path: search === '' ? path : `${path}?${search}`,
      headers: { accept: 'application/json, application/vnd.oci.image.index.v1+json' },
      missing: 'NAME_UNKNOWN',
    });
    return response;
  }

  /** Deletes a manifest, a tag or a blob. */
  async remove(asker: Asker, path: string, missing: DistributionCode): Promise<void> {
    const { response } = await this.upstream.request({ ...asker, method: 'DELETE', path, missing });
    discard(response);
  }
}
