import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { socketFrom } from '../firstRun/socket.ts';
import { loadSettings } from '../options/settings.ts';
import { rotateLog } from '../supervisor/logRotation.ts';
import { parseCounts } from './change.ts';
import { tailOf } from './logs.ts';
import { refuseUnmet } from './prepare.ts';
import { formatProcesses } from './ps.ts';
import { describeUpstreams } from './registryClient.ts';

const scratch = mkdtempSync(join(tmpdir(), 'flotilla-commands-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('scale', () => {
  it('reads SERVICE=REPLICAS', () => {
    expect(parseCounts(['gateway=2', 'image-service=3'])).toEqual({ gateway: 2, 'image-service': 3 });
    expect(() => parseCounts(['gateway'])).toThrow('must be SERVICE=REPLICAS');
    expect(() => parseCounts(['redis=2'])).toThrow('no such service: redis');
  });
});

describe('prepare', () => {
  it.each([
    ['--policy-file', { policyFile: '/policy.json' }],
    ['--hosts-file', { hostsFile: '/hosts.json' }],
    ['--compact', { compact: true }],
  ])('refuses %s, which nobody would mind', (flag, other) => {
    const file = join(scratch, 'daemon.json');
    writeFileSync(file, '{}');
    const settings = loadSettings(new Map(), file);
    expect(() => refuseUnmet(settings)).not.toThrow();
    expect(() => refuseUnmet({ ...settings, ...other })).toThrow(`${flag} is not supported where each service is a container of its own`);
  });
});

describe('upstreams', () => {
  it('are told of in a line for each thing', () => {
    const [until, url, mirror] = ['2026-01-01T00:00:00.000Z', 'https://registry-1.docker.io', 'http://mirror.lab'];
    const quarantine = [{ repository: 'a/app', reason: 'not its digest', until }];
    const upstreams = [
      { url, rateLimit: { limit: 100, remaining: 76, windowSeconds: 21_600 }, heldOffUntil: until },
      { url: mirror, rateLimit: { remaining: 3 }, quarantine },
    ];
    expect(describeUpstreams({ upstreams })).toEqual([
      `upstream ${url}: 76 of 100 pulls left in a window of 6 hours`,
      `upstream ${url}: asks to be left alone until ${until}`,
      `upstream ${mirror}: 3 pulls left`,
      `upstream ${mirror}: in quarantine until ${until} for a/app: not its digest`,
    ]);
  });
});

describe('logs', () => {
  it.each<[string, number, string]>([
    ['', 5, ''],
    ['a\nb\nc\n', 2, 'b\nc\n'],
    ['a\nb\nc', 1, 'c\n'],
    ['a\nb\n', 9, 'a\nb\n'],
    ['a\nb\n', 0, ''],
  ])('the end of %j by %i lines', (text, lines, wanted) => {
    const path = join(scratch, 'some.log');
    writeFileSync(path, text);
    expect(tailOf(path, lines)).toBe(wanted);
  });

  it('reads only the end of a long file', () => {
    const path = join(scratch, 'long.log');
    writeFileSync(path, Array.from({ length: 50_000 }, (_unused, index) => `line ${index}\n`).join(''));
    expect(tailOf(path, 2)).toBe('line 49998\nline 49999\n');
    expect(tailOf(path, Number.POSITIVE_INFINITY).split('\n').length).toBe(50_001);
  });

  it('are rotated past their bound, the oldest dropped', () => {
    const path = join(scratch, 'rotated.log');
    for (const text of ['one', 'two', 'three', 'four', 'five']) {
      writeFileSync(path, text);
      expect(rotateLog(path, { maxBytes: 3, keep: 3 })).toBe(true);
    }
    expect([1, 2, 3].map((number) => tailOf(`${path}.${number}`, 1))).toEqual(['five\n', 'four\n', 'three\n']);
    expect(tailOf(`${path}.4`, 1)).toBe('');
    expect(rotateLog(path, { maxBytes: 3, keep: 3 })).toBe(false);
  });
});

describe('ps', () => {
  it('prints a table', () => {
    const table = formatProcesses([
      {
        service: 'gateway',
        instance: 'ab12',
        pid: 42,
        address: 'unix:/x.sock',
        healthy: false,
        reason: 'starting',
        version: '0.1.0',
        uptimeSeconds: 3725,
        startedAt: '',
        restarts: 2,
        account: 'flotilla-gateway',
        draining: false,
        outdated: false,
      },
      {
        service: 'image-service',
        instance: 'cd34',
        pid: 43,
        address: 'unix:/y.sock',
        healthy: false,
        reason: 'draining',
        version: '0.1.0',
        uptimeSeconds: 12,
        startedAt: '',
        restarts: 0,
        account: 'root',
        draining: true,
        outdated: false,
        underWay: 2,
        answered: 71,
        answeredPerSecond: 12.4,
        leases: ['image/a', 'image/b'],
      },
    ]);
    expect(table).toBe(
      'SERVICE        INSTANCE  PID  HEALTH    LOAD           LEASES  UPTIME  RESTARTS  VERSION  USER              ADDRESS\n' +
        'gateway        ab12      42   starting  -              -       1h2m    2         0.1.0    flotilla-gateway  unix:/x.sock\n' +
        'image-service  cd34      43   draining  12.4/s, 2 now  2       12s     0         0.1.0    root              unix:/y.sock\n',
    );
  });
});

describe('the first run', () => {
  it('finds the socket of the stack it started', () => {
    expect(socketFrom([])).toEqual({ socket: '/run/flotilla/docker.sock', dataRoot: '/var/lib/flotilla' });
    expect(socketFrom(['--exec-root=/x', '--data-root', '/d'])).toEqual({ socket: '/x/docker.sock', dataRoot: '/d' });
    expect(socketFrom(['-H', 'unix:///y.sock']).socket).toBe('/y.sock');
  });
});
