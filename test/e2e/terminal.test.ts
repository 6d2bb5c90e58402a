import { Terminal } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const terminals: Terminal[] = [];
const detach = '\x10\x11';

function open(...args: string[]): Terminal {
  const { pid } = stack.host.namespaces;
  const terminal = Terminal.open('nsenter', ['-t', String(pid), '--net', '--mount', '--', 'docker', ...args], {
    env: { ...stack.host.dockerEnvironment, TERM: 'xterm' },
    rows: 30,
    columns: 100,
  });
  terminals.push(terminal);
  return terminal;
}

afterEach(async () => {
  for (const terminal of terminals.splice(0)) terminal.close();
  const ids = (await stack.host.mustDocker('ps', '-aq')).split('\n').filter(Boolean);
  if (ids.length > 0) await stack.host.mustDocker('rm', '-f', ...ids);
});

/** Types a command whose echo cannot be mistaken for its output. */
async function ask(terminal: Terminal, command: string): Promise<string> {
  const from = terminal.output.length;
  terminal.type(`echo "<""$(${command})"">"\n`);
  return (await terminal.expect(/<([^"<>]*)>/, { from }))[1] ?? '';
}

describe('docker run -it', () => {
  it('gives a terminal of the right size that follows the window', async () => {
    const terminal = open('run', '-it', '--rm', stack.busybox, 'sh');
    await terminal.expect(/# /);
    expect(await ask(terminal, 'tty')).toMatch(/^\/dev\/(pts\/0|console)$/);
    expect(await ask(terminal, 'stty size')).toBe('30 100');
    terminal.resize(41, 133);
    // The CLI sends the new size when it gets SIGWINCH; the shell's next question may be faster.
    for (let tries = 0; tries < 50 && (await ask(terminal, 'stty size')) !== '41 133'; tries += 1);
    expect(await ask(terminal, 'stty size')).toBe('41 133');
    expect(await ask(terminal, 'echo $TERM')).toBe('xterm');
    terminal.type('exit 5\n');
    expect(await terminal.exit()).toBe(5);
  });

  it('has the right size from the first command on', async () => {
    const terminal = open('run', '-it', '--rm', stack.busybox, 'sh', '-c', 'sleep 0.3; stty size');
    await terminal.expect(/30 100/);
    expect(await terminal.exit()).toBe(0);
  });

  it('^P^Q leaves it running, attach comes back', async () => {
    const terminal = open('run', '-it', '--name', 'left', stack.busybox, 'sh');
    await terminal.expect(/# /);
    expect(await ask(terminal, 'echo before')).toBe('before');
    terminal.type(detach);
    expect(await terminal.exit()).toBe(0);
    expect(await stack.host.mustDocker('inspect', '-f', '{{.State.Running}}', 'left')).toBe('true');

    const again = open('attach', 'left');
    again.type('\n');
    await again.expect(/# /);
    expect(await ask(again, 'echo after')).toBe('after');
    again.type('exit 6\n');
    expect(await again.exit()).toBe(6);
  });

  it('other keys may detach', async () => {
    const terminal = open('run', '-it', '--name', 'keys', '--detach-keys', 'ctrl-a,x', stack.busybox, 'sh');
    await terminal.expect(/# /);
    terminal.type(detach);
    expect(await ask(terminal, 'echo still')).toContain('still');
    terminal.type('\x01x');
    expect(await terminal.exit()).toBe(0);
    expect(await stack.host.mustDocker('inspect', '-f', '{{.State.Running}}', 'keys')).toBe('true');
  });

  it('^C reaches the program, ^D ends the shell', async () => {
    const terminal = open('run', '-it', '--rm', stack.busybox, 'sh');
    await terminal.expect(/# /);
    terminal.type('sleep 1000\n');
    await terminal.expect(/sleep 1000\r\n/);
    await new Promise((resolve) => setTimeout(resolve, 200));
    terminal.type('\x03');
    expect(await ask(terminal, 'echo alive')).toBe('alive');
    terminal.type('\x04');
    await terminal.exit();
  });

  it('start -ai comes back to a stopped one', async () => {
    await stack.host.mustDocker('create', '-it', '--name', 'stopped', stack.busybox, 'sh');
    const terminal = open('start', '-ai', 'stopped');
    terminal.type('\n');
    await terminal.expect(/# /);
    expect(await ask(terminal, 'echo started')).toBe('started');
    terminal.type('exit 4\n');
    expect(await terminal.exit()).toBe(4);
  });
});

describe('docker exec -it', () => {
  it('gives a terminal beside the main process, resizes, and tells the exit code', async () => {
    await stack.host.mustDocker('run', '-d', '--name', 'main', stack.busybox, 'sleep', '1000');
    const terminal = open('exec', '-it', 'main', 'sh');
    await terminal.expect(/# /);
    expect(await ask(terminal, 'stty size')).toBe('30 100');
    terminal.resize(44, 144);
    for (let tries = 0; tries < 50 && (await ask(terminal, 'stty size')) !== '44 144'; tries += 1);
    expect(await ask(terminal, 'stty size')).toBe('44 144');
    expect(await ask(terminal, 'cat /proc/1/comm')).toBe('sleep');
    terminal.type('exit 8\n');
    expect(await terminal.exit()).toBe(8);
  });

  it('^P^Q leaves the command running', async () => {
    await stack.host.mustDocker('run', '-d', '--name', 'main', stack.busybox, 'sleep', '1000');
    const terminal = open('exec', '-it', 'main', 'sh', '-c', 'echo go; sleep 777');
    await terminal.expect(/go/);
    terminal.type(detach);
    // The CLI calls leaving an exec an error, and says so by 1.
    expect(await terminal.exit()).toBe(1);
    expect(await stack.host.mustDocker('exec', 'main', 'ps', '-o', 'args')).toContain('sleep 777');
  });
});

describe('without a terminal at the client', () => {
  it('-t is refused by the CLI, and a terminal container shows its output raw', async () => {
    expect((await stack.host.docker('run', '-it', '--rm', stack.busybox, 'true')).stderr).toMatch(/not a (TTY|terminal)/);
    const result = await stack.host.docker('run', '-t', '--rm', stack.busybox, 'sh', '-c', 'echo out; echo err >&2');
    expect(result.stdout).toBe('out\r\nerr\r\n');
  });
});
