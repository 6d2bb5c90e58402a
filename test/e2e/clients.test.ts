import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { waitFor } from '@flotilla/testkit';
import Docker from 'dockerode';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
// What the build cache keeps is no leak, but it is something that is left.
afterAll(() => stack.host.mustDocker('builder', 'prune', '-af'));

describe('dockerode', () => {
  let docker: Docker;
  beforeAll(() => {
    docker = new Docker({ socketPath: stack.host.socketPath });
  });

  it('runs a container and gets its output and exit code', async () => {
    const output = new PassThrough();
    let text = '';
    output.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const [result, container] = (await docker.run(stack.busybox, ['sh', '-c', 'echo hello; exit 3'], output)) as [
      { StatusCode: number },
      Docker.Container,
    ];
    expect(result.StatusCode).toBe(3);
    await waitFor(() => text.includes('hello'));
    await container.remove();
  });

  it('attaches with stdin, half-closes it, and reads the rest', async () => {
    const container = await docker.createContainer({
      Image: stack.busybox,
      Cmd: ['sh', '-c', 'cat; echo end'],
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
      AttachStdout: true,
      Tty: false,
    });
    const stream = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
    const stdout = new PassThrough();
    let text = '';
    stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    docker.modem.demuxStream(stream, stdout, new PassThrough());
    await container.start();
    stream.write('by stream\n');
    stream.end();
    expect(await container.wait()).toMatchObject({ StatusCode: 0 });
    await waitFor(() => text === 'by stream\nend\n');
    await container.remove();
  });

  it('executes, and inspects the exec', async () => {
    const container = await docker.createContainer({ Image: stack.busybox, Cmd: ['sleep', '1000'] });
    await container.start();
    const exec = await container.exec({ Cmd: ['sh', '-c', 'echo out; echo err >&2; exit 7'], AttachStdout: true, AttachStderr: true });
    const stream = await exec.start({ hijack: true });
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    docker.modem.demuxStream(stream, stdout, stderr);
    await new Promise((resolve) => stream.once('end', resolve));
    expect(stdout.read()?.toString()).toBe('out\n');
    expect(stderr.read()?.toString()).toBe('err\n');
    expect(await exec.inspect()).toMatchObject({ ExitCode: 7, Running: false, ContainerID: container.id });
    await container.remove({ force: true });
  });

  it('reads framed logs, lists, and gets errors with their status', async () => {
    const container = await docker.createContainer({ Image: stack.busybox, name: 'listed', Cmd: ['sh', '-c', 'echo out; echo err >&2'] });
    await container.start();
    await container.wait();
    const logs = (await container.logs({ stdout: true, stderr: true })) as Buffer;
    expect([logs[0], logs.readUInt32BE(4), logs.subarray(8, 12).toString()]).toEqual([1, 4, 'out\n']);
    const [listed] = await docker.listContainers({ all: true, filters: { name: ['listed'] } });
    expect(listed).toMatchObject({ Id: container.id, Names: ['/listed'], State: 'exited', Image: stack.busybox });
    await expect(docker.getContainer('ghost').inspect()).rejects.toMatchObject({
      statusCode: 404,
      json: { message: 'No such container: ghost' },
    });
    await expect(docker.createContainer({ Image: stack.busybox, name: 'listed' })).rejects.toMatchObject({ statusCode: 409 });
    await container.remove();
  });
});

describe('dockerode with BuildKit', () => {
  /** Builds a Dockerfile with `file` beside it; gives the id and what was wrong. */
  async function build(dockerfile: string): Promise<{ id?: string; error?: string }> {
    const docker = new Docker({ socketPath: stack.host.socketPath });
    const folder = join(stack.host.filesDirectory, 'dockerode');
    mkdirSync(folder, { recursive: true });
    for (const [name, content] of Object.entries({ Dockerfile: dockerfile, file: 'content', ignored: '', '.dockerignore': 'ignored' })) {
      writeFileSync(join(folder, name), content);
    }
    const src = ['Dockerfile', 'file', 'ignored', '.dockerignore'];
    const stream = await docker.buildImage({ context: folder, src }, { version: '2', t: 'by-session' });
    const lines = await new Promise<{ id?: string; aux?: unknown; error?: string }[]>((resolve, reject) => {
      docker.modem.followProgress(stream, (error, all) => (error ? reject(error) : resolve(all)));
    });
    const { ID } = (lines.find(({ id }) => id === 'moby.image.id')?.aux ?? {}) as { ID?: string };
    const { error } = lines.find((line) => line.error !== undefined) ?? {};
    return { ...(ID && { id: ID }), ...(error && { error }) };
  }

  // It has a session, for credentials, and sends the context as before: so does testcontainers' `withBuildkit`.
  it('sends the context beside its session', async () => {
    const { id, error } = await build(`FROM ${stack.busybox}\nCOPY . /context\nRUN --mount=type=tmpfs,target=/t ls /context > /seen\n`);
    expect(error).toBeUndefined();
    expect(await stack.host.mustDocker('run', '--rm', id ?? '', 'cat', '/seen', '/context/file')).toBe('Dockerfile\nfile\ncontent');
    expect(await stack.host.mustDocker('image', 'inspect', '--format', '{{.Id}}', 'by-session')).toBe(id);
  });

  it('hears why a build fails, several at a time', async () => {
    const answers = await Promise.all([build(`FROM ${stack.busybox}\nRUN exit 3\n`), build(`FROM ${stack.busybox}\nRUN exit 3\n`)]);
    for (const { error } of answers) expect(error).toContain('did not complete successfully: exit code: 3');
  });
});

describe("Docker's SDK for Python", () => {
  /** Runs a script with `client` connected; gives what it printed. */
  async function python(script: string): Promise<string> {
    const program = `import docker\nclient = docker.DockerClient(base_url=${JSON.stringify(`unix://${stack.host.socketPath}`)}, version='auto')\nimage = ${JSON.stringify(stack.busybox)}\n${script}`;
    return (await stack.host.mustRun('/usr/bin/python3', ['-c', program])).stdout.trim();
  }

  it('runs, waits, reads logs, and removes', async () => {
    expect(await python("print(client.containers.run(image, ['echo', 'from python'], remove=True).decode())")).toBe('from python');
    expect(
      await python(`
c = client.containers.run(image, ['sh', '-c', 'echo a; echo b >&2; exit 4'], detach=True)
print(c.wait()['StatusCode'], c.logs(stdout=True, stderr=False), c.logs(stdout=False, stderr=True))
c.reload(); print(c.status); c.remove()`),
    ).toBe("4 b'a\\n' b'b\\n'\nexited");
  });

  it('executes with streams, and raises what the API says', async () => {
    expect(
      await python(`
c = client.containers.run(image, ['sleep', '1000'], detach=True)
print(c.exec_run(['sh', '-c', 'echo out; echo err >&2; exit 5'], demux=True))
try:
    client.containers.run(image, ['no-such'], remove=True)
except docker.errors.APIError as e:
    print(e.status_code, 'executable file not found' in str(e))
try:
    client.images.get('no/such')
except docker.errors.ImageNotFound as e:
    print(e.status_code)
c.remove(force=True)`),
    ).toBe("ExecResult(exit_code=5, output=(b'out\\n', b'err\\n'))\n400 True\n404");
  });

  it('is shown what older versions showed, as docker-compose 1 reads it', async () => {
    expect(
      await python(`
api = docker.APIClient(base_url='unix://${stack.host.socketPath}', version='1.27')
c = api.create_container(image, ['sleep', '1000'], mac_address='02:42:0a:0b:0c:0d')
api.start(c)
print(api.inspect_container(c)['Config']['MacAddress'], api.inspect_image(image)['ContainerConfig'].get('Volumes'))
print([list(n['Containers']) == [c['Id']] for n in api.networks(names=['bridge'])])
api.remove_container(c, force=True)`),
    ).toBe('02:42:0a:0b:0c:0d None\n[True]');
  });

  it('lists, makes volumes, and hears events', async () => {
    expect(
      await python(`
v = client.volumes.create('pyvolume'); print([x.name for x in client.volumes.list()]); v.remove()
import time; since = int(time.time())
c = client.containers.create(image, name='snake'); c.remove()
for e in client.events(since=since, until=int(time.time()) + 2, decode=True, filters={'container': 'snake'}): print(e['Action'])`),
    ).toBe("['pyvolume']\ncreate\ndestroy");
  });
});

describe('docker-compose 1.29', () => {
  const files: Record<string, string> = {
    'web/Dockerfile':
      'FROM BUSYBOX\nARG WORD\nRUN mkdir /www && echo $WORD > /www/index.html\nCMD ["httpd", "-f", "-p", "80", "-h", "/www"]\n',
    'docker-compose.yml': `
version: "2.4"
services:
  web:
    build: { context: web, args: { WORD: hello } }
    depends_on: { db: { condition: service_healthy } }
    stop_signal: SIGKILL
    networks: [front, back]
  db:
    image: BUSYBOX
    command: ["sh", "-c", "echo ready; touch /data/ready; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    networks: { back: { aliases: [store] } }
    healthcheck: { test: ["CMD", "test", "-e", "/data/ready"], interval: 1s, timeout: 20s, retries: 60 }
networks: { front: {}, back: { internal: true } }
volumes: { data: {} }
`,
  };

  it('builds, waits for health, scales, executes, shows logs, and takes everything down', { timeout: 300_000 }, async () => {
    const { host } = stack;
    const folder = join(host.filesDirectory, 'shop');
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(folder, path, '..'), { recursive: true });
      writeFileSync(join(folder, path), content.replaceAll('BUSYBOX', stack.busybox));
    }
    // From API 1.45 on images have no ContainerConfig any more, which this compose reads: with dockerd too it needs an older one.
    const env = { ...host.dockerEnvironment, COMPOSE_API_VERSION: '1.44' };
    const compose = async (...args: string[]): Promise<string> =>
      (await host.mustRun('/usr/bin/docker-compose', args, { cwd: folder, env, timeoutMs: 200_000 })).stdout.trim();
    await compose('up', '-d', '--build', '--scale', 'web=2');
    const own = ['--filter', 'label=com.docker.compose.project=shop'];
    const running = async (): Promise<string[]> => (await host.mustDocker('ps', ...own, '--format', '{{.Names}}')).split('\n').sort();
    expect(await running()).toEqual(['shop_db_1', 'shop_web_1', 'shop_web_2']);
    expect(await host.mustDocker('inspect', '--format', '{{.State.Health.Status}}', 'shop_db_1')).toBe('healthy');
    expect(await compose('exec', '-T', 'web', 'wget', '-qO-', 'http://127.0.0.1/')).toBe('hello');
    expect(await compose('exec', '-T', '--index=2', 'web', 'nslookup', 'store')).toContain('Address');
    expect(await compose('logs', '--no-color', 'db')).toContain('db_1   | ready');
    await compose('up', '-d', '--no-recreate', '--scale', 'web=1');
    expect(await running()).toEqual(['shop_db_1', 'shop_web_1']);
    await compose('restart', '-t', '0', 'web');
    expect(await compose('ps', '-q')).toHaveLength(129);
    // What the volume holds outlives its container.
    await compose('exec', '-T', 'db', 'sh', '-c', 'echo kept > /data/kept');
    await compose('up', '-d', '--force-recreate', 'db');
    expect(await compose('exec', '-T', 'db', 'cat', '/data/kept')).toBe('kept');
    await compose('down', '-v', '--rmi', 'local');
    const left = [
      ['ps', '-aq', ...own],
      ['network', 'ls', '-q', ...own],
      ['volume', 'ls', '-q', ...own],
      ['images', '-q', 'shop_web'],
    ];
    expect((await Promise.all(left.map((command) => host.mustDocker(...command)))).join('')).toBe('');
  });
});

describe('testcontainers', () => {
  it('starts services, waits for them, talks to them, and throws them away', { timeout: 120_000 }, async () => {
    const { stdout } = await stack.host.mustRun(process.execPath, [join(import.meta.dirname, 'testcontainersJob.ts'), stack.busybox], {
      env: { ...stack.host.dockerEnvironment, TESTCONTAINERS_RYUK_DISABLED: 'true' },
    });
    expect(JSON.parse(stdout)).toEqual({
      published: 'hello',
      named: 'hello',
      exec: { output: 'y /tmp nobody\nerr\n', stdout: 'y /tmp nobody\n', stderr: 'err\n', exitCode: 3 },
      logs: expect.stringMatching(/^(starting\noops\n|oops\nstarting\n)$/),
      archive: true,
      late: 'Log message "never" not received after 500ms',
    });
    // Also what failed to start is gone.
    expect(await stack.host.mustDocker('ps', '-aq', '--filter', 'label=org.testcontainers=true')).toBe('');
  });
});
