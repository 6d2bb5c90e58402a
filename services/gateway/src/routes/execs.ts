/** Routes of execs: additional processes in a running container. */
import { type ExecConfig, type ExecStartConfig, execConfig, execStartConfig } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import { type Backends, long, read } from '../backends.ts';
import { olderThan } from '../http/apiVersion.ts';
import { checkContentType, decodeBody, optionalJson, readBody } from '../http/body.ts';
import { terminalSize } from '../http/query.ts';
import { clientGone, sendEmpty, sendJson } from '../http/respond.ts';
import { hijack } from '../streams/hijack.ts';
import { openExec } from '../streams/outlasting.ts';
import { name } from './parameters.ts';

export function execRoutes(router: Router, { execs }: Backends): void {
  router.post(/^\/containers\/(?<name>.*)\/exec$/, async (request, response) => {
    const config: ExecConfig = await optionalJson(request, execConfig);
    if ((config.Cmd ?? []).length === 0) throw new InvalidParameter('No exec command specified');
    // ConsoleSize and WorkingDir came later; older clients cannot have meant them.
    if (olderThan(request, '1.42')) delete config.ConsoleSize;
    // One that was created and whose id nobody learned is never started: it may be created again.
    const { id } = await execs.create({ container: name(request), configJson: Buffer.from(JSON.stringify(config)) }, read);
    sendJson(response, 201, { Id: id });
  });

  router.post(/^\/exec\/(?<name>.*)\/start$/, async (request, response) => {
    checkContentType(request);
    // Some clients never end the body: a whole document is enough.
    const body = await readBody(request, isWhole);
    const options: ExecStartConfig = body.trim() === '' ? {} : (decodeBody(execStartConfig, body) ?? {});
    const signal = clientGone(response);
    const [height = 0, width = 0] = options.Tty && !options.Detach && !olderThan(request, '1.42') ? (options.ConsoleSize ?? []) : [];
    const asked = { exec: name(request), detach: options.Detach ?? false, tty: options.Tty ?? false, height, width };
    if (asked.detach) {
      await execs.start(asked, { ...long, signal });
      sendEmpty(response, 200);
    } else {
      const { stream, tty } = await openExec(execs, asked, signal);
      await hijack(request, response, stream, tty);
    }
  });

  router.post(/^\/exec\/(?<name>.*)\/resize$/, async (request, response) => {
    const height = terminalSize(request, 'h', 'height');
    const width = terminalSize(request, 'w', 'width');
    await execs.resize({ exec: name(request), height, width });
    sendEmpty(response, 200);
  });

  router.get(/^\/exec\/(?<name>.*)\/json$/, async (request, response) => {
    const { execJson } = await execs.inspect({ exec: name(request) }, read);
    sendJson(response, 200, execJson);
  });
}

function isWhole(text: string): boolean {
  if (!text.trimEnd().endsWith('}')) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
