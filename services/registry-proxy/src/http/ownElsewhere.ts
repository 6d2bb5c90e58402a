/** Own repositories that another replica keeps: what changes or lists them is passed on as it came, and so is the answer. */
import type { IncomingHttpHeaders } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Fleet } from '../replicas/fleet.ts';
import type { Route } from '../route.ts';
import { type Exchange, pick } from './exchange.ts';

const passedOn = ['accept', 'content-type', 'content-length', 'content-range', 'transfer-encoding'];
const answered = [
  'allow',
  'content-type',
  'content-length',
  'docker-content-digest',
  'docker-upload-uuid',
  'link',
  'location',
  'oci-filters-applied',
  'oci-subject',
  'range',
];

export class OwnElsewhere {
  private readonly fleet: Pick<Fleet, 'keepsOwn' | 'askKeeper'>;

  constructor(fleet: Pick<Fleet, 'keepsOwn' | 'askKeeper'>) {
    this.fleet = fleet;
  }

  /** Whether they are here after all. */
  get isHere(): boolean {
    return this.fleet.keepsOwn;
  }

  /** Whether a request is for content, which is cached here as any upstream's is. */
  isRead(route: Route, { request }: Exchange): boolean {
    return ['manifest', 'blob'].includes(route.kind) && ['GET', 'HEAD'].includes(request.method ?? '');
  }

  /** @throws UpstreamAway when the one who keeps them cannot be reached. */
  async pass({ request, response, signal }: Exchange): Promise<void> {
    const headers = pick(request.headers, passedOn);
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
    const answer = await this.fleet.askKeeper({
      method: request.method ?? 'GET',
      path: request.url ?? '/v2/',
      headers,
      signal,
      ...(hasBody ? { body: request } : {}),
    });
    response.writeHead(answer.statusCode, { ...pick(answer.headers, answered), ...tagsOf(answer.headers) });
    await pipeline(answer, response);
  }
}

/** The one header that comes several times. */
function tagsOf({ 'oci-tag': tags }: IncomingHttpHeaders): { 'oci-tag'?: string | string[] } {
  return tags === undefined ? {} : { 'oci-tag': tags };
}
