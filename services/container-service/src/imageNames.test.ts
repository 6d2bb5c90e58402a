import { NotFound, Unavailable } from '@flotilla/errors';
import { currentRequest, runWithRequest } from '@flotilla/service-kit';
import { expect, it } from 'vitest';
import { ImageNames } from './imageNames.ts';
import { containerRecord } from './testing/containers.ts';

it('asks what a name means once for each state of image-service, and takes it for unmoved where nobody answers', async () => {
  const [made, other] = ['sha256:made', 'sha256:other'];
  const container = containerRecord({ image: { id: made, reference: 'moving:1' } });
  const byId = containerRecord({ image: { id: made, reference: made } });
  let mark: string | undefined = 'a';
  let answer: string | Error = made;
  let asked = 0;
  const resolve = async () => {
    asked++;
    if (answer instanceof Error) throw answer;
    return { id: answer, configJson: Buffer.alloc(0), platform: '', manifestDescriptorJson: Buffer.alloc(0), descendantIds: [] };
  };
  const names = new ImageNames({ images: { resolve }, changeMark: () => mark });
  const shown = async (): Promise<string[]> => {
    const imageOf = await names.shown([container, container, byId]);
    return [imageOf(container), imageOf(byId)];
  };
  expect([await shown(), await shown(), asked]).toEqual([['moving:1', made], ['moving:1', made], 1]);
  answer = other;
  expect([await shown(), asked]).toEqual([['moving:1', made], 1]);
  mark = 'b';
  expect([await shown(), asked]).toEqual([[made, made], 2]);
  mark = 'c';
  answer = new NotFound('No such image: moving:1');
  expect(await shown()).toEqual([made, made]);
  mark = 'd';
  answer = new Unavailable('away');
  expect(await shown()).toEqual(['moving:1', made]);
  answer = other;
  expect(await shown()).toEqual([made, made]);
  mark = undefined;
  expect(await shown()).toEqual(['moving:1', made]);
});

it("asks in nobody's name: the answer is for all", async () => {
  const container = containerRecord({ image: { id: 'sha256:made', reference: 'moving:1' } });
  const askedBy: unknown[] = [];
  const resolve = async () => {
    askedBy.push(currentRequest()?.identity);
    return { id: 'sha256:made', configJson: Buffer.alloc(0), platform: '', manifestDescriptorJson: Buffer.alloc(0), descendantIds: [] };
  };
  const names = new ImageNames({ images: { resolve }, changeMark: () => 'a' });
  await runWithRequest({ requestId: '1', identity: { kind: 'user', name: 'alice', uid: 1000 } }, () => names.shown([container]));
  expect(askedBy).toEqual([undefined]);
});
