/**
 * A small volume plugin, as one that somebody would write: a folder a volume, given out by bind mounts would be one way, by its path is enough here.
 * It writes each call into a file, a line a call, fails where a file `fail-METHOD` says so, and waits where there is a file `wait-METHOD` until it is gone.
 *
 * `node volumePlugin.ts SOCKET FOLDER`
 */
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const [socket = '', folder = ''] = process.argv.slice(2);
const volumes = join(folder, 'volumes');
mkdirSync(volumes, { recursive: true });

type Answer = Record<string, unknown>;

function known(name: string): Answer {
  return existsSync(join(volumes, name)) ? {} : { Err: `volume ${name} is not known` };
}

const methods: Readonly<Record<string, (request: { Name: string; ID: string; Opts?: Record<string, string> }) => Answer>> = {
  'Plugin.Activate': () => ({ Implements: ['VolumeDriver'] }),
  'VolumeDriver.Capabilities': () => ({ Capabilities: { Scope: 'global' } }),
  'VolumeDriver.Create': ({ Name }) => {
    mkdirSync(join(volumes, Name), { recursive: true });
    return {};
  },
  'VolumeDriver.Remove': ({ Name }) => {
    rmSync(join(volumes, Name), { recursive: true });
    return {};
  },
  'VolumeDriver.Get': ({ Name }) => ({ Volume: { Name, Mountpoint: join(volumes, Name), Status: { colour: 'blue' } }, ...known(Name) }),
  'VolumeDriver.List': () => ({ Volumes: readdirSync(volumes).map((Name) => ({ Name, Mountpoint: join(volumes, Name) })) }),
  'VolumeDriver.Path': ({ Name }) => ({ Mountpoint: join(volumes, Name), ...known(Name) }),
  'VolumeDriver.Mount': ({ Name }) => ({ Mountpoint: join(volumes, Name), ...known(Name) }),
  'VolumeDriver.Unmount': ({ Name }) => known(Name),
};

const server = createServer((request, response) => {
  let body = '';
  request.on('data', (chunk: Buffer) => {
    body += chunk.toString();
  });
  request.on('end', async () => {
    const method = (request.url ?? '').slice(1);
    const { Name = '', ID = '', Opts } = JSON.parse(body || '{}');
    appendFileSync(join(folder, 'calls'), `${JSON.stringify({ method, Name, ID, ...(Opts === undefined ? {} : { Opts }) })}\n`);
    while (existsSync(join(folder, `wait-${method}`))) await setTimeout(20);
    const failure = join(folder, `fail-${method}`);
    const answer = existsSync(failure)
      ? { Err: readFileSync(failure, 'utf8').trim() }
      : (methods[method]?.({ Name, ID, Opts }) ?? { Err: `no method ${method}` });
    response.writeHead(answer.Err === undefined ? 200 : 500, { 'content-type': 'application/vnd.docker.plugins.v1.2+json' });
    response.end(JSON.stringify(answer));
  });
});
server.listen(socket, () => process.stdout.write('ready\n'));
