/** Archives that are fetched from the web for an import. */
import { Readable } from 'node:stream';
import { InvalidParameter, System } from '@flotilla/errors';

/** Opens `http://…` or `https://…`; without a scheme http is meant. @throws InvalidParameter for anything else, System when it cannot be fetched. */
export async function openRemote(source: string, signal: AbortSignal): Promise<Readable> {
  const url = URL.parse(source.includes('://') ? source : `http://${source}`);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new InvalidParameter(`unsupported source for an import: ${source}`);
  }
  let answer: Response;
  try {
    answer = await fetch(url, { signal });
  } catch (error) {
    throw new System(`failed to GET ${url.href}`, { cause: error });
  }
  if (!answer.ok || answer.body === null)
    throw new InvalidParameter(`failed to GET ${url.href} with status ${answer.status} ${answer.statusText}`);
  return Readable.fromWeb(answer.body as Parameters<typeof Readable.fromWeb>[0]);
}
