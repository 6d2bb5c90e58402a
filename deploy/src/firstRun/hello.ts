/**
 * hello-world, by the docker CLI where it is installed, else over the Engine API itself. The image comes from Docker Hub where that can be reached in a few
 * seconds, else from the archive that deploy/setup.sh made.
 */
import { spawnSync } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { request } from 'node:http';
import { findProgram } from '../stack/programs.ts';

const image = 'hello-world:latest';
const pullMs = 20_000;

/** @throws Error when the container does not run to a good end. */
export async function sayHello(socket: string, seed: string, say: (line: string) => void): Promise<void> {
  const docker = findProgram('docker');
  const client: Client = docker === undefined ? new ApiClient(socket) : new CommandClient(docker, socket);
  if (await client.hasImage()) {
    say(`start: ${image} is here already`);
  } else {
    say(`start: pulling ${image} from Docker Hub (at most ${pullMs / 1000} s)`);
    const refusal = await client.pull();
    if (refusal !== undefined) {
      say(`start: Docker Hub cannot be used (${refusal}); loading ${image} from ${seed}, made from busybox-static`);
      await client.load(seed);
    }
  }
  say(`start: docker run --rm hello-world${docker === undefined ? ' (the docker CLI is not installed: asked over the API)' : ''}`);
  await client.run();
}

interface Client {
  hasImage(): Promise<boolean>;
  /** Why not, or undefined when it is pulled. */
  pull(): Promise<string | undefined>;
  load(archive: string): Promise<void>;
  run(): Promise<void>;
}

/** The docker CLI. */
class CommandClient implements Client {
  private readonly docker: string;
  private readonly env: NodeJS.ProcessEnv;

  constructor(docker: string, socket: string) {
    this.docker = docker;
    const { DOCKER_CONTEXT: _context, DOCKER_TLS_VERIFY: _tls, ...env } = process.env;
    this.env = { ...env, DOCKER_HOST: `unix://${socket}` };
  }

  private command(args: string[], options: { show?: boolean; timeoutMs?: number } = {}): { status: number | null; error: string } {
    const result = spawnSync(this.docker, args, {
      env: this.env,
      encoding: 'utf8',
      timeout: options.timeoutMs ?? 60_000,
      stdio: ['ignore', options.show === true ? 'inherit' : 'ignore', options.show === true ? 'inherit' : 'pipe'],
    });
    const lastLine = (result.stderr ?? '').trim().split('\n').at(-1) ?? '';
    return { status: result.status, error: result.status === null ? 'no answer in time' : lastLine };
  }

  async hasImage(): Promise<boolean> {
    return this.command(['image', 'inspect', image]).status === 0;
  }

  async pull(): Promise<string | undefined> {
    const { status, error } = this.command(['pull', '--quiet', image], { timeoutMs: pullMs });
    return status === 0 ? undefined : error;
  }

  async load(archive: string): Promise<void> {
    const { status, error } = this.command(['load', '--quiet', '--input', archive]);
    if (status !== 0) throw new Error(error);
  }

  async run(): Promise<void> {
    const { status } = this.command(['run', '--rm', image], { show: true });
    if (status !== 0) throw new Error(`docker run ended with exit code ${status}`);
  }
}

interface ApiAnswer {
  readonly status: number;
  readonly body: Buffer;
}

/** The Engine API by plain HTTP over the socket. */
class ApiClient implements Client {
  private readonly socket: string;

  constructor(socket: string) {
    this.socket = socket;
  }

  private call(method: string, path: string, body?: { json: unknown } | { file: string }, timeoutMs = 60_000): Promise<ApiAnswer> {
    return new Promise((resolve, reject) => {
      const type = body === undefined ? {} : { 'content-type': 'json' in body ? 'application/json' : 'application/x-tar' };
      const call = request({ socketPath: this.socket, method, path, headers: { host: 'docker', ...type } }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
        response.on('error', reject);
      });
      call.setTimeout(timeoutMs, () => call.destroy(new Error('no answer in time')));
      call.on('error', reject);
      if (body === undefined) call.end();
      else if ('json' in body) call.end(JSON.stringify(body.json));
      else
        createReadStream(body.file)
          .on('error', (error) => call.destroy(error))
          .pipe(call);
    });
  }

  private async must(method: string, path: string, body?: { json: unknown } | { file: string }): Promise<Buffer> {
    const answer = await this.call(method, path, body);
    if (answer.status >= 400) throw new Error(messageOf(answer.body));
    return answer.body;
  }

  async hasImage(): Promise<boolean> {
    return (await this.call('GET', `/images/${image}/json`)).status === 200;
  }

  async pull(): Promise<string | undefined> {
    try {
      const { status, body } = await this.call('POST', '/images/create?fromImage=hello-world&tag=latest', undefined, pullMs);
      if (status !== 200) return messageOf(body);
      return /"error":"([^"]*)"/.exec(body.toString())?.[1];
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  async load(archive: string): Promise<void> {
    await this.must('POST', '/images/load?quiet=1', { file: archive });
  }

  async run(): Promise<void> {
    const { Id: id } = JSON.parse((await this.must('POST', '/containers/create', { json: { Image: image } })).toString()) as { Id: string };
    try {
      await this.must('POST', `/containers/${id}/start`);
      const { StatusCode: code } = JSON.parse((await this.must('POST', `/containers/${id}/wait`)).toString()) as { StatusCode: number };
      process.stdout.write(unframe(await this.must('GET', `/containers/${id}/logs?stdout=1&stderr=1`)));
      if (code !== 0) throw new Error(`the container ended with exit code ${code}`);
    } finally {
      await this.call('DELETE', `/containers/${id}?force=1`);
    }
  }
}

function messageOf(body: Buffer): string {
  try {
    return (JSON.parse(body.toString()) as { message: string }).message;
  } catch {
    return body.toString().slice(0, 200);
  }
}

/** The text in Docker's stream frames: stream, three zeros, big-endian length. */
function unframe(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at + 4);
    text += bytes.subarray(at + 8, at + 8 + length).toString();
    at += 8 + length;
  }
  return text;
}
