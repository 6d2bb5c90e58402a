/** Compose v2 as people have it, with projects that build: what its commands leave running, and nothing of it afterwards. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addDockerPlugins, type CommandResult, mustSucceed, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

// A first copy into a container that stands still makes the directory for its views.
const stack = useStack({ ignoreLeaks: [/^file exec\/container-service\/views$/] });
const timeoutMs = 180_000;

beforeAll(() => addDockerPlugins(stack.host), 300_000);
// What the cache keeps is no leak, but it is something that is left.
afterAll(() => stack.host.mustDocker('builder', 'prune', '-af'));

class Project {
  readonly folder: string;

  constructor(name: string, files: Readonly<Record<string, string>>) {
    this.folder = join(stack.host.filesDirectory, name);
    for (const [path, content] of Object.entries(files)) this.write(path, content.replaceAll('BUSYBOX', stack.busybox));
  }

  write(path: string, content: string): void {
    mkdirSync(dirname(join(this.folder, path)), { recursive: true });
    writeFileSync(join(this.folder, path), content);
  }

  run(...args: string[]): Promise<CommandResult> {
    return stack.host.dockerWith({ cwd: this.folder, timeoutMs }, 'compose', ...args);
  }

  /** Gives standard output without its last newline. */
  async must(...args: string[]): Promise<string> {
    return mustSucceed(await this.run(...args), `docker compose ${args.join(' ')}`).stdout.replace(/\n$/, '');
  }

  spawn(...args: string[]): ChildProcess {
    return stack.host.dockerSpawn('compose', '--project-directory', this.folder, ...args);
  }

  exec(service: string, ...command: string[]): Promise<string> {
    return this.must('exec', '-T', service, ...command);
  }
}

/** Ids of what still belongs to a project. An image that a later build has replaced stays without a name, as it does with dockerd. */
async function leftOf(project: string): Promise<string> {
  const { host } = stack;
  const own = ['--filter', `label=com.docker.compose.project=${project}`];
  const kinds = [
    ['ps', '-aq', ...own],
    ['network', 'ls', '-q', ...own],
    ['volume', 'ls', '-q', ...own],
    ['images', '-q', '--filter', `reference=${project}-*:latest`],
  ];
  const left = await Promise.all(kinds.map((command) => host.mustDocker(...command)));
  return left.join('');
}

describe('a shop: built services, health gates, networks, a volume, configs and secrets', () => {
  const files = {
    Dockerfile: 'FROM BUSYBOX\nARG WORD\nRUN mkdir /www && echo $WORD > /www/index.html\nCMD ["httpd", "-f", "-p", "80", "-h", "/www"]\n',
    'conf.txt': 'setting',
    'key.txt': 'secret',
    '.env': 'SHOP_WORD=spoken\n',
    'compose.yaml': `
name: shop
services:
  web:
    build: { context: ., args: { WORD: hello } }
    depends_on: { db: { condition: service_healthy }, init: { condition: service_completed_successfully } }
    networks: [front, back]
    configs: [{ source: conf, target: /conf }, { source: inline, target: /inline }]
    secrets: [key, word]
  worker:
    build: { context: ., args: { WORD: worker } }
    command: ["sh", "-c", "echo working; exec sleep 1000"]
    stop_signal: SIGKILL
    networks: [back]
    scale: 2
  db:
    image: BUSYBOX
    command: ["sh", "-c", "touch /data/ready; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
    networks: { back: { aliases: [store], ipv4_address: 10.88.0.77 } }
    healthcheck: { test: ["CMD", "test", "-e", "/data/ready"], interval: 1s, timeout: 20s, retries: 60 }
  init: { image: BUSYBOX, command: ["true"], networks: [back] }
  debug: { image: BUSYBOX, command: ["sleep", "1000"], stop_signal: SIGKILL, profiles: [tools] }
networks: { front: {}, back: { internal: true, ipam: { config: [{ subnet: 10.88.0.0/24 }] } } }
volumes: { data: {} }
configs: { conf: { file: ./conf.txt }, inline: { content: "for $SHOP_WORD" } }
secrets: { key: { file: ./key.txt }, word: { environment: SHOP_WORD } }
`,
  };

  it('comes up whole, is looked into, grows, and goes', { timeout: 400_000 }, async () => {
    const shop = new Project('shop', files);
    await shop.must('--progress', 'plain', 'up', '--build', '--detach', '--wait', 'web', 'worker');
    const running = (await shop.must('ps', '--format', '{{.Service}} {{.Image}} {{.Health}}')).split('\n').map((line) => line.trim());
    expect(running.sort()).toEqual([`db ${stack.busybox} healthy`, 'web shop-web', 'worker shop-worker', 'worker shop-worker']);
    expect(await shop.exec('web', 'sh', '-c', 'cat /conf /run/secrets/key; wget -q -O - http://web')).toBe('settingsecrethello');
    // What has no file is copied into the container.
    expect(await shop.exec('web', 'cat', '/inline', '/run/secrets/word')).toBe('for spokenspoken');
    expect(await shop.exec('worker', 'cat', '/www/index.html')).toBe('worker');
    expect(await shop.exec('worker', 'nslookup', 'store.')).toContain('10.88.0.77');
    expect(await shop.exec('db', 'ip', '-4', 'addr', 'show', 'dev', 'eth0')).toContain('inet 10.88.0.77/24');
    // A service on two networks is reached on both; one on the internal network alone reaches nothing else.
    expect(await shop.exec('worker', 'wget', '-q', '-O', '-', 'http://web')).toBe('hello');
    expect(await shop.exec('worker', 'ip', 'route')).not.toContain('default');
    expect((await shop.exec('web', 'ip', 'route')).match(/^default /gm)).toHaveLength(1);
    expect((await shop.run('exec', '-T', 'worker', 'nslookup', 'web.shop_front.')).code).not.toBe(0);
    expect((await shop.must('logs', 'worker')).match(/worker-\d\s+\| working/g)).toHaveLength(2);
    expect((await shop.must('top', 'worker')).match(/sleep 1000/g)).toHaveLength(2);
    expect(await shop.must('images', '-q', 'web')).toHaveLength(64);
    shop.write('sent', 'by cp\n');
    await shop.must('cp', 'sent', 'web:/www/sent');
    expect(await shop.exec('web', 'cat', '/www/sent')).toBe('by cp');
    await shop.must('up', '--detach', '--no-deps', '--scale', 'worker=3', 'worker');
    expect((await shop.must('ps', '-q', 'worker')).split('\n')).toHaveLength(3);
    expect(await shop.must('--profile', 'tools', 'run', '--rm', '-T', 'debug', 'echo', 'a tool')).toBe('a tool');
    // What has changed is built and made anew; the rest stays as it is.
    const db = await shop.must('ps', '-q', 'db');
    shop.write('Dockerfile', files.Dockerfile.replaceAll('BUSYBOX', stack.busybox).replace('echo $WORD', 'echo new $WORD'));
    await shop.must('up', '--build', '--detach', '--wait', 'web');
    expect(await shop.exec('web', 'cat', '/www/index.html')).toBe('new hello');
    expect(await shop.must('ps', '-q', 'db')).toBe(db);
    await shop.must('--profile', 'tools', 'down', '--volumes', '--rmi', 'local', '--timeout', '1');
    expect(await leftOf('shop')).toBe('');
  });
});

describe('a page that is worked on', () => {
  it('is watched: files are put in their place, and what makes the image rebuilds it', { timeout: 400_000 }, async () => {
    const page = new Project('page', {
      Dockerfile: 'FROM BUSYBOX\nCOPY made /made\nCOPY site /site\nCMD ["sleep", "1000"]\nSTOPSIGNAL SIGKILL\n',
      made: 'first',
      'site/index.html': 'one',
      'compose.yaml': `
name: page
services:
  page:
    build: .
    develop:
      watch:
        - { action: sync, path: ./site, target: /site }
        - { action: rebuild, path: ./made }
`,
    });
    await page.must('up', '--build', '--detach', '--wait');
    const watching = page.spawn('watch', '--no-up');
    let said = '';
    for (const stream of [watching.stdout, watching.stderr]) stream?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    try {
      await waitFor(() => /watch/i.test(said), { what: 'compose to watch', timeoutMs: 60_000 });
      const shows = (path: string, content: string): Promise<unknown> =>
        waitFor(async () => (await page.run('exec', '-T', 'page', 'cat', path)).stdout === content, {
          what: `${path} to be ${content}; compose said: ${said}`,
          timeoutMs: 90_000,
          intervalMs: 500,
        });
      page.write('site/index.html', 'two');
      await shows('/site/index.html', 'two');
      page.write('made', 'second');
      await shows('/made', 'second');
    } finally {
      watching.kill('SIGINT');
    }
    await page.must('down', '--rmi', 'local', '--timeout', '1');
    expect(await leftOf('page')).toBe('');
  });
});

describe('builds of a project', () => {
  it('take secrets, other services and targets; failures of one are told', { timeout: 400_000 }, async () => {
    const made = new Project('made', {
      Dockerfile: `FROM BUSYBOX AS first
RUN --mount=type=secret,id=key wc -c < /run/secrets/key > /size
FROM first AS second
RUN echo $((1 + $(cat /size))) > /more
`,
      'bad/Dockerfile': 'FROM BUSYBOX\nRUN exit 9\n',
      key: '12345',
      'compose.yaml': `
name: made
services:
  first: { build: { context: ., target: first, secrets: [key] }, command: ["cat", "/size"] }
  second: { build: { context: ., target: second, secrets: [key], labels: { a: b }, tags: ["made-tag:1"] }, command: ["cat", "/more"] }
  bad: { build: ./bad, profiles: [bad] }
secrets: { key: { file: ./key } }
`,
    });
    await made.must('build');
    expect(await made.must('run', '--rm', '-T', 'first')).toBe('5');
    expect(await made.must('run', '--rm', '-T', 'second')).toBe('6');
    expect(await stack.host.mustDocker('image', 'inspect', '--format', '{{index .Config.Labels "a"}}', 'made-tag:1')).toBe('b');
    const failing = await made.run('--profile', 'bad', 'build', 'bad');
    expect(failing.code).not.toBe(0);
    expect(failing.stderr).toContain('did not complete successfully: exit code: 9');
    const events = made.spawn('events', '--json');
    let heard = '';
    events.stdout?.on('data', (chunk: Buffer) => (heard += chunk.toString()));
    await waitFor(
      async () => {
        await made.run('up', '--detach', '--force-recreate', 'first');
        return heard.includes('"action":"start"');
      },
      { what: 'an event of the project', timeoutMs: 60_000 },
    );
    events.kill('SIGINT');
    await made.must('down', '--rmi', 'all', '--timeout', '1');
    expect(await leftOf('made')).toBe('');
  });
});

describe('a queue: an inline Dockerfile, files of variables, an outer network and volume', () => {
  it('is followed, held, moved and taken down without what is not its own', { timeout: 400_000 }, async () => {
    const { host } = stack;
    const queue = new Project('queue', {
      'worker.env': 'WORD=from file\n',
      '.env': 'TAG=seven\n',
      'compose.yaml': `
name: queue
x-service: &service { networks: [outer], stop_signal: SIGKILL }
services:
  worker:
    <<: *service
    image: queue-worker:\${TAG}
    build: { dockerfile_inline: "FROM BUSYBOX\\nRUN echo made > /made\\n", pull: false }
    env_file: worker.env
    environment: { MORE: "\${MORE:-default}" }
    volumes: ["kept:/kept"]
    command: ["sh", "-c", "while sleep 0.3; do echo tick $$WORD $$MORE | tee -a /kept/ticks; done"]
    deploy: { replicas: 2, resources: { limits: { memory: 40m } } }
  sick:
    <<: *service
    image: BUSYBOX
    command: ["sleep", "1000"]
    healthcheck: { test: ["CMD", "false"], interval: 1s, retries: 1, start_period: 0s }
    profiles: [sick]
networks: { outer: { external: true, name: queue-outer } }
volumes: { kept: { external: true, name: queue-kept } }
`,
    });
    await host.mustDocker('network', 'create', 'queue-outer');
    await host.mustDocker('volume', 'create', 'queue-kept');
    await queue.must('up', '--build', '--detach', '--wait');
    const follower = queue.spawn('logs', '--follow');
    let heard = '';
    follower.stdout?.on('data', (chunk: Buffer) => (heard += chunk.toString()));
    const told = (): boolean => {
      expect(heard).toMatch(/(^.*tick from file default *\n){4}/m);
      return true;
    };
    await waitFor(told, { what: 'lines as they come', timeoutMs: 60_000 });
    await queue.must('pause', 'worker');
    expect(await queue.must('ps', '--status', 'paused', '-q')).toHaveLength(2 * 64 + 1);
    await queue.must('unpause', 'worker');
    expect(await host.mustDocker('inspect', '--format', '{{.HostConfig.Memory}}', 'queue-worker-1')).toBe(String(40 * 1024 * 1024));
    // Another tag is another image, and both containers are made anew.
    const before = (await queue.must('ps', '-q')).split('\n');
    queue.write('.env', 'TAG=eight\nMORE=given\n');
    await queue.must('up', '--build', '--detach', '--wait', '--scale', 'worker=1');
    const after = (await queue.must('ps', '-q')).split('\n');
    expect([after.length, before.includes(after[0] ?? '')]).toEqual([1, false]);
    await waitFor(async () => (await queue.must('logs', 'worker')).includes('tick from file given'), {
      what: 'the new variable',
      timeoutMs: 60_000,
    });
    const waiting = await queue.run('--profile', 'sick', 'up', '--detach', '--wait', 'sick');
    expect(waiting).toMatchObject({ code: 1, stderr: expect.stringContaining('unhealthy') });
    await queue.must('--profile', 'sick', 'down', '--volumes', '--rmi', 'all', '--timeout', '1').finally(() => follower.kill('SIGINT'));
    expect(await leftOf('queue')).toBe('');
    expect(await host.mustDocker('images', '-q', 'queue-worker:eight')).toBe('');
    // What was there before stays, with what was written.
    const kept = await host.mustDocker('run', '--rm', '-v', 'queue-kept:/kept', stack.busybox, 'tail', '-n', '1', '/kept/ticks');
    expect(kept).toBe('tick from file given');
    await host.mustDocker('network', 'rm', 'queue-outer');
    await host.mustDocker('volume', 'rm', 'queue-kept');
    await host.mustDocker('rmi', 'queue-worker:seven');
  });
});

describe('a pipeline: each service stands on another', () => {
  it('is built in its order, waits for what ends and what is healthy, and tells its changes', { timeout: 400_000 }, async () => {
    const pipeline = new Project('pipeline', {
      'base/Dockerfile': 'FROM BUSYBOX\nRUN echo base > /base\n',
      'app/Dockerfile': 'FROM base\nCOPY --from=assets . /assets\nRUN cat /base /assets/a > /app\n',
      'assets/a': 'asset\n',
      'compose.yaml': `
name: pipeline
services:
  base: { build: base, command: ["true"] }
  first:
    build: { context: app, additional_contexts: { base: "service:base", assets: ./assets } }
    depends_on: { base: { condition: service_completed_successfully } }
    command: ["sh", "-c", "cp /app /shared/app; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["shared:/shared"]
    healthcheck: { test: ["CMD", "test", "-e", "/shared/app"], interval: 1s, timeout: 20s, retries: 60 }
  last:
    image: BUSYBOX
    depends_on: { first: { condition: service_healthy, restart: true } }
    command: ["sh", "-c", "cat /shared/app; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["shared:/shared:ro"]
volumes: { shared: {} }
`,
    });
    // This version of Compose takes images of other services by name only.
    await pipeline.must('build', 'base');
    pipeline.write(
      'compose.override.yaml',
      'services: { first: { build: { additional_contexts: { base: "docker-image://pipeline-base" } } } }\n',
    );
    await pipeline.must('up', '--build', '--detach', '--wait', 'last');
    const wrote = async (): Promise<boolean> => {
      expect(await pipeline.must('logs', 'last')).toMatch(/last-1 +\| base *\n.*last-1 +\| asset/);
      return true;
    };
    await waitFor(wrote, { what: 'the last to read what the first has written', timeoutMs: 60_000 });
    const last = await pipeline.must('ps', '-q', 'last');
    const started = (): Promise<string> => stack.host.mustDocker('inspect', '--format', '{{.State.StartedAt}}', last);
    const before = await started();
    await pipeline.must('restart', '--timeout', '1', 'first');
    expect(await started()).not.toBe(before);
    await pipeline.must('cp', 'last:/shared/app', 'copied');
    expect(readFileSync(join(pipeline.folder, 'copied'), 'utf8')).toBe('base\nasset\n');
    await pipeline.must('down', '--volumes', '--rmi', 'local', '--timeout', '1');
    expect(await leftOf('pipeline')).toBe('');
  });
});
