import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { waitFor } from '@flotilla/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { useStack } from './stack.ts';

const stack = useStack();
const must = (...args: string[]) => stack.host.mustDocker(...args);

afterEach(async () => {
  const ids = (await must('ps', '-aq')).split('\n').filter(Boolean);
  if (ids.length > 0) await must('rm', '-f', ...ids);
});

async function finished(name: string, script: string): Promise<void> {
  await must('run', '-d', '--name', name, stack.busybox, 'sh', '-c', script);
  await must('wait', name);
}

describe('docker logs', () => {
  it('keeps the streams apart', async () => {
    await finished('both', 'echo out; echo err >&2; printf "no newline"');
    expect(await stack.host.docker('logs', 'both')).toMatchObject({ code: 0, stdout: 'out\nno newline', stderr: 'err\n' });
  });

  it('-f follows, and ends when the container does', async () => {
    await must('run', '-d', '--name', 'slow', stack.busybox, 'sh', '-c', 'for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done');
    const begun = Date.now();
    expect(await must('logs', '-f', 'slow')).toBe('line 1\nline 2\nline 3\nline 4\nline 5');
    expect(Date.now() - begun).toBeLessThan(10_000);
    // Of one that has ended it ends at once.
    expect(await must('logs', '-f', '--tail', '1', 'slow')).toBe('line 5');
  });

  it('-f shows a line when it is written, not later', async () => {
    await must('run', '-d', '--name', 'live', stack.busybox, 'sh', '-c', 'echo first; sleep 1000');
    const child = stack.host.dockerSpawn('logs', '-f', 'live');
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    await waitFor(() => output === 'first\n');
    await must('exec', 'live', 'sh', '-c', 'echo second > /proc/1/fd/1');
    await waitFor(() => output === 'first\nsecond\n', { timeoutMs: 2_000 });
    child.kill();
  });

  it('--tail, --since, --until and -t', async () => {
    await finished('many', 'seq 1 1000; sleep 1.2; echo late');
    expect(await must('logs', '--tail', '3', 'many')).toBe('999\n1000\nlate');
    expect(await must('logs', '--tail', '0', 'many')).toBe('');
    expect((await must('logs', '--tail', 'all', 'many')).split('\n')).toHaveLength(1001);
    const stamped = (await must('logs', '-t', '--tail', '2', 'many')).split('\n');
    for (const line of stamped) expect(line).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (1000|late)$/);
    const [before, late] = stamped.map((line) => line.split(' ')[0] ?? '');
    expect(Date.parse(late ?? '') - Date.parse(before ?? '')).toBeGreaterThan(1_000);
    expect(await must('logs', '--since', late ?? '', 'many')).toBe('late');
    expect((await must('logs', '--until', before ?? '', 'many')).split('\n').at(-1)).toBe('1000');
  });

  it('keeps long lines and binary output whole', async () => {
    await finished('long', 'head -c 100000 /dev/zero | tr "\\0" x; echo; printf "\\001\\377\\000end\\n"');
    const result = await stack.host.docker('logs', 'long');
    const [line, ...rest] = result.stdoutBytes.toString('latin1').split('\n');
    expect(line).toBe('x'.repeat(100_000));
    expect(rest).toEqual(['\x01\xff\x00end', '']);
  });

  it('rotates without being asked, so that a log does not fill the disk', async () => {
    const line = '0123456789'.repeat(10);
    // Two pieces, each above the default size with its times; a log is looked at once a second.
    const id = await must('run', '-d', stack.busybox, 'sh', '-c', `for piece in 1 2; do yes ${line} | head -c 20000000; sleep 3; done`);
    const [config, path = ''] = (await must('inspect', '-f', '{{json .HostConfig.LogConfig}} {{.LogPath}}', id)).split(' ');
    expect(JSON.parse(config ?? '')).toEqual({ Type: 'json-file', Config: {} });
    await waitFor(() => existsSync(`${path}.1`), { timeoutMs: 10_000, what: 'a rotated log' });
    await must('wait', id);
    expect((await must('logs', id)).length).toBe(2 * 20_000_000);
  });

  it('rotates at the size that is asked for, keeps the newest, and compresses when asked to', async () => {
    // A log is looked at once a second, so it is written in pieces, more of them than rotated files are kept.
    const writes = 'for piece in 0 1 2 3 4 5 6 7; do seq $((piece * 12500 + 1)) $((piece * 12500 + 12500)); sleep 1.2; done';
    const run = (name: string, ...options: string[]): Promise<string> =>
      must('run', '-d', '--name', name, '--log-opt', 'max-size=100k', ...options, stack.busybox, 'sh', '-c', writes);
    await run('small', '--log-opt', 'max-file=2');
    await run('packed', '--log-opt', 'max-file=20', '--log-opt', 'compress=true');
    await must('wait', 'small', 'packed');
    const lines = (await must('logs', 'small')).split('\n');
    expect(lines.at(-1)).toBe('100000');
    expect(lines.length).toBeLessThan(100_000);
    const numbers = lines.map(Number);
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, index) => 100_000 - numbers.length + 1 + index));

    const path = await must('inspect', '-f', '{{.LogPath}}', 'packed');
    expect(existsSync(`${path}.1`)).toBe(false);
    const oldest = readdirSync(dirname(path)).filter((name) => name.endsWith('.gz')).length;
    expect(oldest).toBeGreaterThan(2);
    expect(gunzipSync(readFileSync(`${path}.${oldest}.gz`)).toString()).toMatch(/^\S+ stdout F 1\n\S+ stdout F 2\n/);
    expect((await must('logs', 'packed')).split('\n').map(Number)).toEqual(Array.from({ length: 100_000 }, (_, index) => index + 1));
    expect((await must('logs', '--tail', '50001', 'packed')).split('\n')[0]).toBe('50000');
  });

  it('of a driver that keeps none are refused', async () => {
    await must('run', '-d', '--name', 'mute', '--log-driver', 'none', stack.busybox, 'echo', 'x');
    expect((await stack.host.docker('logs', 'mute')).stderr).toContain('configured logging driver does not support reading');
    const unknown = await stack.host.docker('create', '--log-driver', 'nosuch', stack.busybox);
    expect(unknown.code).toBe(1);
    expect(unknown.stderr).toMatch(/logger: no log driver named 'nosuch' is registered|unknown log driver/);
  });
});

describe('docker attach', () => {
  it('shows what comes from now on, and ends with the exit code', async () => {
    await must(
      'run',
      '-d',
      '--name',
      'attached',
      stack.busybox,
      'sh',
      '-c',
      'echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; exit 9',
    );
    await waitFor(async () => (await must('logs', 'attached')) === 'before');
    const child = stack.host.dockerSpawn('attach', 'attached');
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    const exit = new Promise((resolve) => child.once('exit', resolve));
    await new Promise((resolve) => setTimeout(resolve, 500));
    await must('exec', 'attached', 'touch', '/go');
    expect(await exit).toBe(9);
    expect(output).toBe('after\n');
  });

  it('of one that is not running is refused', async () => {
    await must('create', '--name', 'idle', stack.busybox);
    expect((await stack.host.docker('attach', 'idle')).stderr).toMatch(/cannot attach to a stopped container, start it first/);
  });

  it('passes stdin to one that keeps it open', async () => {
    await must('run', '-d', '-i', '--name', 'fed', stack.busybox, 'sh', '-c', 'while read line; do echo got $line; done; echo end');
    // With stdin kept open an end of input does not end the session: the client is ended by its time.
    await stack.host.dockerWith({ input: 'one\n', timeoutMs: 3_000 }, 'attach', '--sig-proxy=false', 'fed').catch(() => {});
    await waitFor(async () => (await must('logs', 'fed')).includes('got one'));
  });
});
