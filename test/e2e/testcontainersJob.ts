/**
 * What a test suite does with testcontainers: services on a network of their own that it waits for, talks to, looks into and throws away. Run on a test host,
 * where published ports are reached; writes what it saw as one JSON document.
 *
 * The package's reaper is an image of its own: it is switched off by TESTCONTAINERS_RYUK_DISABLED.
 */
import { buffer } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { GenericContainer, Network, Wait } from 'testcontainers';

const [image = ''] = process.argv.slice(2);
const page = 'http://web/';

const network = await new Network().start();
const web = await new GenericContainer(image)
  .withCommand(['sh', '-c', 'echo starting; echo oops >&2; sleep 0.3; exec httpd -f -p 80 -h /www'])
  .withCopyContentToContainer([{ content: 'hello', target: '/www/index.html' }])
  .withNetwork(network)
  .withNetworkAliases('web')
  .withExposedPorts(80)
  .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forHttp('/', 80), Wait.forLogMessage('starting')]))
  .start();
const client = await new GenericContainer(image)
  .withCommand(['sleep', '60'])
  .withNetwork(network)
  .withHealthCheck({ test: ['CMD', 'wget', '-qO-', page], interval: 200, timeout: 2_000, retries: 20 })
  .withWaitStrategy(Wait.forHealthCheck())
  .start();
const once = await new GenericContainer(image).withCommand(['true']).withWaitStrategy(Wait.forOneShotStartup()).start();

const seen = {
  published: await (await fetch(`http://${web.getHost()}:${web.getMappedPort(80)}/`)).text(),
  named: (await client.exec(['wget', '-qO-', page])).output,
  exec: await client.exec(['sh', '-c', 'echo "$X $(pwd) $(id -un)"; echo err >&2; exit 3'], {
    env: { X: 'y' },
    workingDir: '/tmp',
    user: 'nobody',
  }),
  logs: await logs(web),
  archive: (await buffer(await web.copyArchiveFromContainer('/www/index.html'))).includes('hello'),
  late: await failure(
    new GenericContainer(image).withCommand(['sleep', '60']).withWaitStrategy(Wait.forLogMessage('never')).withStartupTimeout(500).start(),
  ),
};
await client.restart({ timeout: 0 });
await Promise.all([once, client, web].map((container) => container.stop({ timeout: 0 })));
await network.stop();
process.stdout.write(JSON.stringify(seen));

/** What a running container has written so far. */
async function logs(container: typeof web): Promise<string> {
  const stream = await container.logs();
  void pause(300).then(() => stream.destroy());
  let written = '';
  try {
    for await (const chunk of stream) written += String(chunk);
  } catch {
    // It was ended from here.
  }
  return written;
}

async function failure(start: Promise<unknown>): Promise<string> {
  return start.then(
    () => 'none',
    (error: Error) => error.message,
  );
}
