import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  busyboxImage,
  createTestHost,
  mustRun,
  pushImage,
  startNats,
  startRedis,
  startRegistry,
  startStaticRegistry,
  type TestHost,
  waitFor,
} from '../src/index.ts';

let host: TestHost;
beforeAll(async () => {
  host = await createTestHost();
});
afterAll(() => host.dispose());

for (const where of ['here', 'in a test host'] as const) {
  describe(`servers ${where}`, () => {
    const place = (): { place?: TestHost } => (where === 'here' ? {} : { place: host });

    it('redis answers on its socket', async () => {
      const redis = await startRedis(place());
      const client = redis.client();
      await client.set('key', 'value');
      expect(await client.get('key')).toBe('value');
      client.disconnect();
      await redis.stop();
    });

    it('nats listens on a port it found', async () => {
      const nats = await startNats({ ...place(), users: [{ user: 'a', password: 'b' }] });
      expect(nats.port).toBeGreaterThan(1024);
      await nats.stop();
    });

    it('a registry takes an image and logs the requests', async () => {
      const registry = await startRegistry(place());
      const image = await busyboxImage();
      const reference = await pushImage(image, { address: registry.address, repository: 'some/busybox', tag: 'latest' }, place().place);
      expect(reference).toBe(`${registry.address}/some/busybox@${image.manifestDescriptor.digest}`);
      await waitFor(() =>
        registry
          .requests()
          .some((request) => request.method === 'PUT' && request.path.includes('/manifests/latest') && request.status === 201),
      );
      await registry.stop();
    });

    it('a static registry serves what it was given, lies included', async () => {
      const registry = await startStaticRegistry(place());
      const image = await busyboxImage();
      registry.add('liar', 'latest', image, (digest, bytes) =>
        digest === image.layers[0]?.digest ? Buffer.from('something else') : bytes,
      );
      const curl = async (path: string): Promise<string> =>
        (await (place().place ?? { mustRun }).mustRun('curl', ['-s', `http://${registry.address}${path}`])).stdout;
      expect(await curl('/v2/liar/manifests/latest')).toBe(image.manifest.toString());
      expect(await curl(`/v2/liar/blobs/${image.layers[0]?.digest}`)).toBe('something else');
      registry.misbehave([{ path: '/manifests/', status: 503, times: 1 }]);
      expect(await curl('/v2/liar/manifests/latest')).toContain('made to fail');
      expect(await curl('/v2/liar/manifests/latest')).toBe(image.manifest.toString());
      await registry.stop();
    });
  });
}
