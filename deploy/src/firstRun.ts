/** The end of `npm start`: runs hello-world on the new stack, and says how to use it. Takes the flags that `flotilla up` got. */
import { errorMessage } from '@flotilla/errors/classes';
import { sayHello } from './firstRun/hello.ts';
import { socketFrom } from './firstRun/socket.ts';

const { socket, dataRoot } = socketFrom(process.argv.slice(2));
try {
  await sayHello(socket, `${dataRoot}/seed/hello-world.tar`, (line) => process.stdout.write(`${line}\n`));
  process.stdout.write(
    `\nFlotilla is up. In this terminal, and in every other that is to use it:\n\n  export DOCKER_HOST=unix://${socket}\n\n`,
  );
} catch (error) {
  process.stderr.write(`start: the services are up, but hello-world did not run: ${errorMessage(error)}\n`);
  process.exitCode = 1;
}
