import { buildLabel } from '@flotilla/engine-api';
import { describe, expect, it } from 'vitest';
import { dangersOfContainer, dangersOfVolume } from './dangers.ts';
import { decodeIdentity, encodeIdentity, type Identity } from './identity.ts';
import { Policy } from './policy.ts';
import { containerSubject, isWithin, volumeSubject } from './subjects.ts';

const alice: Identity = { kind: 'user', name: 'alice', uid: 1000 };
const policyOf = (document: unknown): Policy => Policy.parse(JSON.stringify(document));

describe('a policy', () => {
  it.each([
    ['{', /not JSON/],
    ['{"roles":{"admin":{}}}', /the role admin is built in/],
    ['{"default":"nobody"}', /there is no role nobody/],
    ['{"identities":[{"user":"a","uid":1,"role":"admin"}]}', /needs one of user, uid and certificate/],
    ['{"roles":{"r":{"forbid":["flying"]}}}', /roles\.r\.forbid\.0/],
    ['{"rols":{}}', /Unrecognized key/],
  ])('refuses %s', (text, message) => {
    expect(() => Policy.parse(text)).toThrow(message);
  });

  it('gives root all, others their role or nothing', () => {
    const policy = policyOf({
      identities: [
        { user: 'alice', role: 'viewer' },
        { certificate: 'ci', role: 'operator' },
      ],
    });
    expect(policy.roleOf({ kind: 'user', name: 'root', uid: 0 })?.name).toBe('admin');
    expect(policy.checkOperation(alice, 'ContainerList').name).toBe('viewer');
    expect(() => policy.checkOperation(alice, 'ContainerStart')).toThrow('user alice (role viewer) may not use ContainerStart');
    expect(policy.checkOperation({ kind: 'certificate', name: 'ci' }, 'ContainerStart').name).toBe('operator');
    // A user named as a certificate is another.
    expect(() => policy.checkOperation({ kind: 'user', name: 'ci', uid: 7 }, 'ContainerList')).toThrow('gives user ci no role');
  });

  it('checks a call where it is carried out, and gives the unknown nothing dangerous', () => {
    const policy = policyOf({ identities: [{ uid: 1000, role: 'operator' }] });
    const path = '/flotilla.container.v1.Containers/Create';
    const request = (config: unknown) => ({ configJson: Buffer.from(JSON.stringify(config)) });
    const privileged = request({ HostConfig: { Privileged: true } });
    expect(() => policy.checkCall(alice, path, privileged)).toThrow('user alice (role operator) may not ask for privileged mode');
    expect(() => policy.checkCall(undefined, path, privileged)).toThrow(/a caller that is not known may not ask/);
    expect(() => policy.checkCall({ kind: 'user', name: 'root', uid: 0 }, path, privileged)).not.toThrow();
    expect(() => policy.checkCall(undefined, path, request({ HostConfig: {} }))).not.toThrow();
  });
});

describe('what a call works on', () => {
  const privileged = containerSubject(
    'b-web',
    { Labels: { team: 'b' }, HostConfig: { Privileged: true, MaskedPaths: ['/proc/kcore'] } },
    'b-web',
  );
  const plain = containerSubject('a-web', { HostConfig: { MaskedPaths: ['/proc/kcore'], ReadonlyPaths: [] } }, 'a-web');
  const calls = '/flotilla.container.v1.Containers/';

  it('is refused to roles that may not have what it has, where the call gets into it', () => {
    const policy = policyOf({ identities: [{ user: 'alice', role: 'operator' }] });
    for (const method of ['Attach', 'PutArchive', 'Commit', 'Create'])
      expect(() => policy.checkSubjects(alice, calls + method, [privileged])).toThrow(
        'may not use the container b-web: it has privileged mode',
      );
    expect(() => policy.checkSubjects(alice, '/flotilla.container.v1.Execs/Start', [privileged])).toThrow('privileged mode');
    const hosts = volumeSubject('data', {}, { type: 'none', o: 'bind', device: '/etc' });
    expect(() => policy.checkSubjects(alice, '/flotilla.volume.v1.Volumes/Acquire', [hosts])).toThrow(
      'the volume data: it has mounts of the host',
    );
    for (const method of ['Stop', 'Remove', 'Inspect', 'Logs']) policy.checkSubjects(alice, calls + method, [privileged]);
    expect(() => policy.checkSubjects(alice, `${calls}Start`, [{ ...privileged, isJoined: true }])).toThrow('privileged mode');
    policy.checkSubjects(alice, `${calls}Attach`, [plain]);
    policy.checkSubjects({ kind: 'user', name: 'root', uid: 0 }, `${calls}Attach`, [privileged]);
  });

  it('does not exist outside of what a role is held to, and is not made there', () => {
    const policy = policyOf({ default: 'a', roles: { a: { objects: { prefixes: ['a-'], labels: ['team=a'] } } } });
    expect(() => policy.checkSubjects(alice, `${calls}Stop`, [privileged])).toThrow('No such container: b-web');
    policy.checkSubjects(alice, `${calls}Stop`, [plain]);
    const made = { kind: 'container', name: 'c-new', labels: {}, isNew: true, missing: '' } as const;
    expect(() => policy.checkSubjects(alice, `${calls}Create`, [made])).toThrow(
      'a container of yours needs a name that begins with a- or the label team=a',
    );
    policy.checkSubjects(alice, `${calls}Create`, [{ ...made, labels: { team: 'a' } }]);
  });

  it("in nobody's name is for all who may have what it has", () => {
    const policy = policyOf({ default: 'a', roles: { a: { objects: { prefixes: ['a-'] }, forbid: ['privileged'] } } });
    const step = { ...privileged, isNobodys: true };
    policy.checkSubjects(alice, `${calls}Stop`, [step]);
    expect(() => policy.checkSubjects(alice, `${calls}Attach`, [step])).toThrow('it has privileged mode');
    policy.checkSubjects(alice, `${calls}Attach`, [{ ...step, dangers: new Set() }]);
  });
});

describe('dangers', () => {
  it.each([
    [{ Privileged: true }, ['privileged']],
    [{ Binds: ['/:/host'] }, ['host-mounts']],
    [{ Binds: ['data:/data'] }, []],
    [{ Mounts: [{ Type: 'bind', Source: '/' }] }, ['host-mounts']],
    [
      { Mounts: [{ Type: 'volume', VolumeOptions: { DriverConfig: { Options: { o: 'bind', device: '/', type: 'none' } } } }] },
      ['host-mounts'],
    ],
    [
      { Mounts: [{ Type: 'volume', VolumeOptions: { DriverConfig: { Options: { o: 'ro,rbind', device: '/', type: 'tmpfs' } } } }] },
      ['host-mounts'],
    ],
    [{ NetworkMode: 'host', PidMode: 'host' }, ['host-namespaces']],
    [{ Devices: [{ PathOnHost: '/dev/sda' }] }, ['devices']],
    [{ CapAdd: ['SYS_ADMIN'] }, ['capabilities']],
    [{ SecurityOpt: ['seccomp=unconfined'] }, ['unconfined']],
    [{ Runtime: 'kata' }, ['unconfined']],
    [{ Runtime: 'runc' }, []],
    [{ SecurityOpt: ['no-new-privileges'], Devices: [], CapAdd: null, MaskedPaths: null }, []],
  ])('of %j', (HostConfig, expected) => {
    expect([...dangersOfContainer({ HostConfig })]).toEqual(expected);
  });

  it('of a step of a build: all but the mounts, which are lent to it', () => {
    const Labels = { [buildLabel]: 'x' };
    expect([...dangersOfContainer({ Labels, HostConfig: { Mounts: [{ Type: 'bind', Source: '/' }] } })]).toEqual([]);
    expect([...dangersOfContainer({ Labels, HostConfig: { NetworkMode: 'host', Binds: ['/:/x'] } })]).toEqual([
      'host-mounts',
      'host-namespaces',
    ]);
  });

  it('of volumes', () => {
    expect([...dangersOfVolume({ DriverOpts: { type: 'none', o: 'bind', device: '/etc' } })]).toEqual(['host-mounts']);
    expect([...dangersOfVolume({ DriverOpts: { type: 'tmpfs', o: 'bind', device: '/etc' } })]).toEqual(['host-mounts']);
    expect([...dangersOfVolume({ DriverOpts: { type: 'nfs', o: 'addr=127.0.0.1', device: ':/' } })]).toEqual(['host-mounts']);
    expect([...dangersOfVolume({ DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=1m' } })]).toEqual([]);
  });
});

it('identities survive a metadata value', () => {
  const identity: Identity = { kind: 'certificate', name: 'Zoë\r\n' };
  expect(decodeIdentity(encodeIdentity(identity))).toEqual(identity);
  expect(decodeIdentity('{}')).toBeUndefined();
});

it('objects are within a role by prefix or by label', () => {
  const own = { prefixes: ['a-'], labels: ['team=a'] };
  expect(isWithin(own, '/a-web', {})).toBe(true);
  expect(isWithin(own, 'web', { team: 'a' })).toBe(true);
  expect(isWithin(own, 'ba-web', { team: 'b' })).toBe(false);
});
