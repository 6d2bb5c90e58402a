/**
 * Stands in for a service in tests of the supervisor: answers grpc.health.v1 Check on a unix socket. `service.ts SOCKET [crash | ignore-term | block | spin | drain]`:
 * `block` and `spin` wait for SIGUSR2, and `drain` goes on after it until the file SOCKET.idle is there.
 */
import { existsSync, rmSync } from 'node:fs';
import { createServer } from 'node:http2';

const [socket = '', behaviour = ''] = process.argv.slice(2);
if (behaviour === 'crash') process.exit(3);

/** Five bytes of frame, then field 1 = SERVING. */
const serving = Buffer.from([0, 0, 0, 0, 2, 0x08, 1]);

const server = createServer();
server.on('stream', (stream) => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(serving);
});
rmSync(socket, { force: true });
server.listen(socket);
if (behaviour === 'drain') {
  process.on('SIGUSR2', () => {
    setInterval(() => {
      if (existsSync(`${socket}.idle`)) process.exit(0);
    }, 20);
  });
}
process.on('SIGTERM', () => {
  if (behaviour !== 'ignore-term') process.exit(0);
});
if (behaviour === 'block') process.on('SIGUSR2', () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
if (behaviour === 'spin')
  process.on('SIGUSR2', () => {
    for (;;);
  });
