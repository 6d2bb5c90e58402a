import { connect } from 'node:net';

/** Whether somebody accepts connections at a unix socket: so does who may not be asked, or has all its queue full. */
export function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const answer = (served: boolean): void => {
      socket.destroy();
      resolve(served);
    };
    socket.on('connect', () => answer(true));
    socket.on('error', (error: NodeJS.ErrnoException) => answer(error.code === 'EAGAIN' || error.code === 'EACCES'));
  });
}
