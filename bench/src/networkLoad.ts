/**
 * `node networkLoad.ts connections ADDRESS PORT MS` or `… names SERVER NAME MS`: a client for the network rows, run inside the namespace it shall be in.
 * Prints how many a second.
 */
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

const atOnce = 16;

/** One small HTTP request a connection. */
async function connections(host: string, port: number, ms: number): Promise<number> {
  const until = performance.now() + ms;
  let count = 0;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port }, () => socket.write('GET /small HTTP/1.0\r\n\r\n'));
      socket.resume();
      socket.on('error', reject);
      socket.on('close', () => resolve());
    });
  const worker = async (): Promise<void> => {
    while (performance.now() < until) {
      await one();
      count++;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return (1000 * count) / ms;
}

/** Questions for an address, by UDP; one that is lost is asked again. */
async function names(server: string, name: string, ms: number): Promise<number> {
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  const question = Buffer.concat([Buffer.from([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels, Buffer.from([0, 0, 1, 0, 1])]);
  const socket = createSocket('udp4');
  const asked = new Map<number, number>();
  let count = 0;
  let id = 0;
  const ask = (): void => {
    id = (id + 1) & 0xffff;
    question.writeUInt16BE(id, 0);
    asked.set(id, performance.now());
    socket.send(Buffer.from(question), 53, server);
  };
  let failed: Error | undefined;
  socket.on('message', (answer) => {
    if (!asked.delete(answer.readUInt16BE(0))) return;
    if (answer.readUInt16BE(6) === 0) failed = new Error(`${server} does not know ${name}`);
    count++;
    ask();
  });
  for (let index = 0; index < atOnce; index++) ask();
  const again = setInterval(() => {
    for (const [lost, at] of asked) {
      if (performance.now() - at < 500) continue;
      asked.delete(lost);
      ask();
    }
  }, 100);
  await new Promise((resolve) => setTimeout(resolve, ms));
  clearInterval(again);
  socket.close();
  if (failed !== undefined) throw failed;
  return (1000 * count) / ms;
}

const [kind, first = '', second = '', ms = '1000'] = process.argv.slice(2);
const figure = kind === 'names' ? names(first, second, Number(ms)) : connections(first, Number(second), Number(ms));
console.log(await figure);
