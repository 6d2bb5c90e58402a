/** Compose v2 as people have it, with projects that build: what its commands leave running, and nothing of it afterwards. */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addDockerPlugins, type CommandResult, mustSucceed, waitFor } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
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
    'compose.yaml': `
name: shop
services:
  web:
    build: { context: ., args: { WORD: hello } }
    depends_on: { db: { condition: service_healthy }, init: { condition: service_completed_successfully } }
    networks: [front, back]
    configs: [{ source: conf, target: /conf }]
    secrets: [key]
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
configs: { conf: { file: ./conf.txt } }
secrets: { key: { file: ./key.txt } }
`,
  };

  it('comes up whole, is looked into, grows, and goes', { timeout: 400_000 }, async () => {
    const shop = new Project('shop', files);
    await shop.must('--progress', 'plain', 'up', '--build', '--detach', '--wait', 'web', 'worker');
    const running = (await shop.must('ps', '--format', '{{.Service}} {{.Image}} {{.Health}}')).split('\n').map((line) => line.trim());
    expect(running.sort()).toEqual([`db ${stack.busybox} healthy`, 'web shop-web', 'worker shop-worker', 'worker shop-worker']);
    expect(await shop.exec('web', 'sh', '-c', 'cat /conf /run/secrets/key; wget -q -O - http://web')).toBe('settingsecrethello');
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
