/** Builds of clients that have a session and steer nothing: the whole of BuildKit's side in one call, told as lines of JSON. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { BuildBySessionRequest } from '@flotilla/contracts/flotilla/image/v1/buildkit';
import { SolveRequest, StatusResponse } from '@flotilla/contracts/moby/buildkit/v1/control';
import type { ProgressMessage } from '@flotilla/engine-api';
import { errorMessage } from '@flotilla/errors';
import { encodeLine, lastWord, writeAll } from '@flotilla/streams';
import type { Control } from '../buildkit/control.ts';
import { failure } from '../progress.ts';

/** Lines of a build: what it shows, in BuildKit's own form, and the image's id. */
async function* buildLines(
  control: Control,
  request: BuildBySessionRequest,
  body: Readable | undefined,
  signal: AbortSignal,
): AsyncGenerator<ProgressMessage> {
  const { ref } = request;
  const solved = control.solve(
    SolveRequest.fromPartial({
      ref,
      session: request.session,
      frontend: 'dockerfile.v0',
      frontendAttrs: request.options,
      // Such a client has no way to grant it apart.
      entitlements: request.options['force-network-mode'] === 'host' ? ['network.host'] : [],
      exporters: request.exporters.map(({ type, attributes }) => ({ type, attrs: attributes })),
    }),
    signal,
    body,
  );
  solved.catch(() => undefined);
  for await (const status of control.status({ ref }, signal)) {
    const aux = Buffer.from(StatusResponse.encode(status).finish()).toString('base64');
    yield { id: 'moby.buildkit.trace', aux };
  }
  const id = (await solved).exporterResponse['containerimage.digest'];
  if (id !== undefined) yield { id: 'moby.image.id', aux: { ID: id } };
}

export async function serveSessionBuild(
  stream: Socket,
  control: Control,
  request: BuildBySessionRequest,
  signal: AbortSignal,
): Promise<void> {
  const body = request.contextInBody ? stream : undefined;
  if (body === undefined) stream.resume();
  await writeAll(stream, encodeLine({}));
  try {
    for await (const line of buildLines(control, request, body, signal)) await writeAll(stream, encodeLine(line));
  } catch (error) {
    if (signal.aborted) return;
    await writeAll(stream, encodeLine(failure(errorMessage(error))));
  }
  await writeAll(stream, lastWord);
  // What of the context nobody has read is thrown away.
  stream.resume();
  if (!stream.readableEnded) await once(stream, 'end', { signal });
}
