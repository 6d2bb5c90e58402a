import { engineOptions } from '@flotilla/service-kit';
import { expect, it } from 'vitest';
import { reloadEvent } from './reloadEvent.ts';

const facts = { engineId: 'id', runtimes: [{ name: 'crun', path: '/usr/bin/crun' }], defaultRuntime: 'crun', cgroupVersion: 1 } as const;

it('a reload is told with what is set, and with the defaults of what is not', () => {
  const plain = reloadEvent({ ...facts, options: engineOptions.parse({}) });
  expect({ ...plain, attributes: { ...plain.attributes, name: 'host' }, timeNano: 0n }).toEqual({
    type: 'daemon',
    action: 'reload',
    actorId: 'id',
    attributes: {
      debug: 'false',
      'default-cgroupns-mode': 'host',
      'default-ipc-mode': 'private',
      'default-runtime': 'crun',
      'default-shm-size': '67108864',
      features: 'map[]',
      'insecure-registries': '[]',
      labels: '[]',
      'live-restore': 'true',
      'max-concurrent-downloads': '3',
      'max-concurrent-uploads': '5',
      name: 'host',
      'registry-mirrors': '[]',
      runtimes: 'crun:/usr/bin/crun',
      'shutdown-timeout': '15',
    },
    timeNano: 0n,
  });
  const set = { labels: ['a=b'], classicBuilder: true, defaultShmSizeBytes: 1024, registryMirrors: ['http://mirror/'] };
  expect(reloadEvent({ ...facts, options: engineOptions.parse(set) }).attributes).toMatchObject({
    features: 'map[buildkit:false]',
    labels: '["a=b"]',
    'default-shm-size': '1024',
    'registry-mirrors': '["http://mirror/"]',
  });
});
