import { describe, expect, it } from 'vitest';
import { planMounts } from './mountPlan.ts';

describe('read-only binds of clients before API 1.44', () => {
  it.each([
    ['/a:/x:ro', true],
    ['/a:/x', undefined],
    ['/a:/x:ro-force-recursive', undefined],
    ['name:/x:ro', undefined],
  ])('%s: what is mounted below stays writable: %s', (bind, nonRecursive) => {
    const [plan] = planMounts({}, { Binds: [bind] }, () => [], '/var/lib/flotilla', true);
    expect(plan?.readOnlyNonRecursive).toBe(nonRecursive);
  });
});

describe('binds of the engine’s own files', () => {
  it.each([
    ['/', '', 'rslave'],
    ['/var', '', 'rslave'],
    ['/var/lib/flotilla', '', 'rslave'],
    ['/var/lib/flotilla/volumes', 'ro', 'rslave'],
    ['/var/lib/flotilla', 'rshared', 'rshared'],
    ['/var/lib/flotilla2', '', 'rprivate'],
    ['/var/lib/flot', 'private', 'private'],
    ['/tmp', '', 'rprivate'],
  ])('%s:/x:%s is %s', (source, mode, propagation) => {
    const [plan] = planMounts({}, { Binds: [`${source}:/x${mode === '' ? '' : `:${mode}`}`] }, () => [], '/var/lib/flotilla');
    expect(plan).toMatchObject({ source, propagation });
  });

  it('the same for --mount, and for what another container has', () => {
    const mount = { Type: 'bind', Source: '/', Target: '/x' };
    const [plan] = planMounts({}, { Mounts: [mount] }, () => [], '/var/lib/flotilla');
    expect(plan).toMatchObject({ propagation: 'rslave', slaveIfShared: true });
    expect(planMounts({}, { VolumesFrom: ['other'] }, () => (plan === undefined ? [] : [plan]), '/var/lib/flotilla')).toMatchObject([
      { destination: '/x', propagation: 'rslave', slaveIfShared: true },
    ]);
  });
});

describe('the volumes that an image asks for', () => {
  it.each(['/etc:/mnt', '/:/host:ro', 'name:/data'])('are places in the container, whatever they look like: %s', (path) => {
    const [plan, ...others] = planMounts({ Volumes: { [path]: {} } }, {}, () => [], '/var/lib/flotilla');
    expect(plan).toMatchObject({
      type: 'volume',
      name: '',
      anonymous: true,
      rw: true,
      destination: path.startsWith('/') ? path : `/${path}`,
    });
    expect([plan?.source, others]).toEqual([undefined, []]);
  });
});

describe('the mode of a volume given without one', () => {
  it('is z, but for the anonymous ones of an image', () => {
    const mount = { Type: 'volume', Target: '/mounted' };
    const plans = planMounts({ Volumes: { '/image': {} } }, { Binds: ['name:/bound'], Mounts: [mount] }, () => [], '/var/lib/flotilla');
    expect(plans.map(({ destination, mode }) => [destination, mode])).toEqual([
      ['/bound', 'z'],
      ['/mounted', 'z'],
      ['/image', ''],
    ]);
  });
});
