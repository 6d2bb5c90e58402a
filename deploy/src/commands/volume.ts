/** `flotilla volume backup|restore`: a volume's content as a tar stream, of standard output or input. */
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { VolumesClient } from '@flotilla/contracts/flotilla/volume/v1/volumes';
import { fromServiceError, InvalidParameter, Unavailable } from '@flotilla/errors';
import { dialTicket, parseLines, type Ticket } from '@flotilla/streams';
import { credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Roots } from '../stack/paths.ts';
import { socketsOf } from '../stack/sockets.ts';

const callMs = 30_000;

const within = (): { deadline: number } => ({ deadline: Date.now() + callMs });

interface TicketAnswer {
  readonly ticket?: Ticket | undefined;
}

/** @throws NotFound for a volume that is not there; a failure later too, so that a cut archive is never taken for a whole one. */
export async function volumeBackup(roots: Roots, name: string, output: Writable = process.stdout): Promise<void> {
  if (output === process.stdout && process.stdout.isTTY)
    throw new InvalidParameter('an archive is not for a terminal: redirect standard output');
  const stream = await open(roots, (client, done) => client.backup({ name }, new Metadata(), within(), done));
  await pipeline(stream, output, { end: output !== process.stdout });
}

export async function volumeRestore(roots: Roots, name: string, replace: boolean, input: Readable = process.stdin): Promise<void> {
  if (input === process.stdin && process.stdin.isTTY) throw new InvalidParameter('an archive is expected on standard input');
  const stream = await open(roots, (client, done) => client.restore({ name, replace }, new Metadata(), within(), done));
  const verdict = readVerdict(stream);
  // A refusal comes before all is sent.
  const sending = pipeline(input, stream).catch((error: unknown) => error);
  const { error } = await verdict;
  if (error !== undefined) throw new InvalidParameter(error);
  await sending;
}

async function readVerdict(stream: Readable): Promise<{ error?: string }> {
  for await (const line of parseLines(stream)) return line as { error?: string };
  throw new Unavailable('network-volume ended before the volume was restored');
}

/** The first instance of the stack that answers. */
async function open(
  roots: Roots,
  call: (client: VolumesClient, done: (error: ServiceError | null, answer: TicketAnswer) => void) => void,
): Promise<Awaited<ReturnType<typeof dialTicket>>> {
  let failure: unknown = new Unavailable(`no network-volume runs at ${roots.execRoot}`);
  for (const socket of socketsOf(roots.execRoot, 'network-volume', 'grpc')) {
    const client = new VolumesClient(`unix:${socket}`, credentials.createInsecure());
    try {
      const { ticket } = await asked(client, call);
      if (ticket !== undefined) return await dialTicket(ticket);
    } catch (error) {
      failure = error;
      if ((error as { kind?: string }).kind !== 'Unavailable') break;
    } finally {
      client.close();
    }
  }
  throw failure;
}

function asked(
  client: VolumesClient,
  call: (client: VolumesClient, done: (error: ServiceError | null, answer: TicketAnswer) => void) => void,
): Promise<TicketAnswer> {
  return new Promise((resolve, reject) => {
    call(client, (error, answer) => (error === null ? resolve(answer) : reject(fromServiceError(error))));
  });
}
