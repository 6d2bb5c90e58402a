/** Errors of a build in BuildKit's words, with the lines of the Dockerfile that they come from. */
import { Any } from '@flotilla/contracts/google/protobuf/any';
import { Status } from '@flotilla/contracts/google/rpc/status';
import { errorMessage, isCancelled, isNotFound } from '@flotilla/errors';
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { locationOf } from '../build/errorSource.ts';
import { CommandFailed } from '../build/runStep.ts';
import type { SourceText } from './sourceText.ts';

const detailsKey = 'grpc-status-details-bin';
const typePrefix = 'github.com/moby/buildkit';

/** What a step's line shows. */
export function stepError(error: unknown): string {
  if (error instanceof CommandFailed) {
    return `process ${JSON.stringify(error.command.join(' '))} did not complete successfully: exit code: ${error.code}`;
  }
  // Whoever ended it: the client, another stage, the end of its session.
  if (isCancelled(error)) return 'context canceled';
  const name = /^manifest for (\S+) not found/.exec(errorMessage(error))?.[1];
  return name === undefined ? errorMessage(error) : `failed to resolve source metadata for ${name}: ${name}: not found`;
}

/** What the client prints after `failed to solve: `. */
function buildError(error: unknown): string {
  const text = stepError(error);
  // Sources of COPY and ADD that are not there are missed when the cache is asked.
  if (isNotFound(error) && /^(COPY|ADD) failed: /.test(text)) {
    const path = /stat (.*): file does not exist$/.exec(text)?.[1] ?? '';
    return `failed to compute cache key: failed to calculate checksum of ref: "/${path}": not found`;
  }
  return text;
}

/** @param source - the Dockerfile, when it is known. */
export function toStatus(error: unknown, source: SourceText | undefined): Status {
  const details: Any[] = [];
  if (error instanceof CommandFailed) details.push(detail('gatewayapi.ExitMessage', { Code: error.code }));
  const location = locationOf(error);
  if (source !== undefined && location !== undefined) {
    details.push(
      detail('errdefs.Source', {
        info: { filename: source.filename, data: source.bytes.toString('base64') },
        ranges: [{ start: { line: location.startLine }, end: { line: location.endLine } }],
      }),
    );
  }
  return { code: status.UNKNOWN, message: buildError(error), details };
}

/** A frontend that is asked for what it does not do. */
export function unsupportedRequest(name: string): Status {
  return {
    code: status.UNKNOWN,
    message: `unsupported request ${name}`,
    details: [detail('errdefs.Subrequest', { name })],
  };
}

function detail(name: string, body: object): Any {
  return Any.create({ typeUrl: `${typePrefix}/${name}+json`, value: Buffer.from(JSON.stringify(body)) });
}

/** A status as grpc-js sends it. */
export function toServiceError({ code, message, details }: Status): Partial<ServiceError> {
  const metadata = new Metadata();
  metadata.set(detailsKey, Buffer.from(Status.encode({ code, message, details }).finish()));
  return { code, details: message, metadata };
}

/** A status on its way out, with its details. */
export class StatusError extends Error {
  readonly status: Status;

  constructor(of: Status) {
    super(of.message);
    this.status = of;
  }
}
