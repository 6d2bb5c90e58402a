import { readConfig } from '@flotilla/service-kit';
import { expect, it } from 'vitest';
import { standaloneSettings } from '../config.ts';
import { replicaOptions } from './open.ts';

const urlOf = (env: Record<string, string>): string | undefined =>
  replicaOptions(readConfig(standaloneSettings, env), () => undefined)?.url;
const redis = { FLOTILLA_REDIS_URL: 'redis://127.0.0.1:6379' };

it('a replica is reached where it listens, or where it says', () => {
  expect(urlOf({ FLOTILLA_HTTP_ADDRESS: '10.0.0.2:5000' })).toBeUndefined();
  expect(urlOf({ ...redis, FLOTILLA_HTTP_ADDRESS: '10.0.0.2:5000' })).toBe('http://10.0.0.2:5000');
  expect(urlOf({ ...redis, FLOTILLA_HTTP_ADDRESS: '0.0.0.0:5000', FLOTILLA_REGISTRY_ADVERTISE: 'one.lab:5000' })).toBe(
    'http://one.lab:5000',
  );
  const tls = { FLOTILLA_REGISTRY_TLS_CERTIFICATE: '/c', FLOTILLA_REGISTRY_TLS_KEY: '/k' };
  expect(urlOf({ ...redis, ...tls, FLOTILLA_HTTP_ADDRESS: '[fd00::2]:5000' })).toBe('https://[fd00::2]:5000');
});

it('an address is for replicas only', () => {
  const alone = { FLOTILLA_HTTP_ADDRESS: '10.0.0.2:5000', FLOTILLA_REGISTRY_ADVERTISE: 'one.lab:5000' };
  expect(() => urlOf(alone)).toThrow('it shares no Redis');
});

it.each(['0.0.0.0:5000', '[::]:5000', 'unix:/run/x.sock'])('must say where when it listens at %s', (address) => {
  expect(() => urlOf({ ...redis, FLOTILLA_HTTP_ADDRESS: address })).toThrow('say where they can');
});
