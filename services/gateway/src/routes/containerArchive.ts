/** Routes that copy files into and out of a container's file system. */
import type { IncomingMessage } from 'node:http';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import { type Backends, long, read } from '../backends.ts';
import { boolean, text } from '../http/query.ts';
import { clientGone, sendEmpty } from '../http/respond.ts';
import { redeem, sendRepeatable, uploadForAnswer } from '../streams/transfer.ts';
import { name } from './parameters.ts';

const statHeader = 'X-Docker-Container-Path-Stat';

export function containerArchiveRoutes(router: Router, { containers }: Backends): void {
  router.head(/^\/containers\/(?<name>.*)\/archive$/, async (request, response) => {
    const { pathStatJson } = await containers.statArchive({ container: name(request), path: path(request) }, read);
    response.setHeader(statHeader, base64(pathStatJson));
    sendEmpty(response, 200);
  });

  router.get(/^\/containers\/(?<name>.*)\/archive$/, async (request, response) => {
    const signal = clientGone(response);
    const asked = { container: name(request), path: path(request) };
    await sendRepeatable(response, async (deadlineMs) => {
      const { ticket, pathStatJson } = await containers.getArchive(asked, { ...read, deadlineMs, signal });
      const headers = { 'Content-Type': 'application/x-tar', [statHeader]: base64(pathStatJson) };
      return { stream: await redeem(ticket, signal), headers };
    });
  });

  router.put(/^\/containers\/(?<name>.*)\/archive$/, async (request, response) => {
    const signal = clientGone(response);
    const { ticket } = await containers.putArchive(
      {
        container: name(request),
        path: path(request),
        noOverwriteDirNonDir: boolean(request, 'noOverwriteDirNonDir'),
        copyUidGid: boolean(request, 'copyUIDGID'),
      },
      { ...long, signal },
    );
    await uploadForAnswer(request, await redeem(ticket, signal));
    sendEmpty(response, 200);
  });
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

function path(request: IncomingMessage): string {
  const value = text(request, 'path');
  if (value === '') throw new InvalidParameter('bad parameter: path cannot be empty');
  return value;
}
