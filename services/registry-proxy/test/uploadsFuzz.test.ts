/**
 * Uploads into own repositories against a model of them: random chunks in and out of order, ends with right and wrong digests, requests for another
 * repository's upload and for none, two at once. Each answer is the one that the model says, and at the end every blob is what was sent. `FUZZ_SEED` shows a
 * failure again; longer with FLOTILLA_SOAK=1.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startProxy, type TestProxy } from './support/proxy.ts';
import { sha256 } from './support/standIn.ts';

const soak = process.env.FLOTILLA_SOAK === '1';
const seed = Number(process.env.FUZZ_SEED ?? (soak ? Date.now() % 1e9 : 20_261_124));

let proxy: TestProxy;
beforeAll(async () => {
  proxy = await startProxy();
});
afterAll(() => proxy?.stop());

/** What the proxy should know of one upload; closed when it ended or was given up. */
interface Upload {
  readonly repository: string;
  readonly place: string;
  bytes: Buffer;
  isOpen: boolean;
}

interface Model {
  readonly uploads: Upload[];
  /** Blobs that were created, by repository and digest. */
  readonly blobs: Map<string, Buffer>;
}

const ask = (method: string, path: string, body: Buffer, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${proxy.url}${path}`, {
    method,
    headers: { 'content-type': 'application/octet-stream', ...headers },
    ...(method === 'GET' || method === 'DELETE' ? {} : { body: new Uint8Array(body) }),
  });

/** Runs a step of a request's life; `which` chooses among the uploads so far, closed ones too. */
type Step =
  | { readonly kind: 'begin'; readonly repository: string }
  | {
      readonly kind: 'patch';
      readonly which: number;
      readonly bytes: Buffer;
      readonly range: 'none' | 'right' | 'ahead' | 'again' | 'short' | 'nonsense';
    }
  | { readonly kind: 'end'; readonly which: number; readonly bytes: Buffer; readonly digest: 'right' | 'wrong' | 'none' | 'nonsense' }
  | { readonly kind: 'state' | 'cancel' | 'stranger'; readonly which: number };

const repository = fc.constantFrom('lab/a', 'lab/b/c');
const bytes = fc.uint8Array({ maxLength: 200 }).map((each) => Buffer.from(each));
const which = fc.nat({ max: 5 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('begin' as const), repository }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('patch' as const),
      which,
      bytes,
      range: fc.constantFrom('none', 'right', 'right', 'ahead', 'again', 'short', 'nonsense'),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('end' as const),
      which,
      bytes,
      digest: fc.constantFrom('right', 'right', 'wrong', 'none', 'nonsense'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('state', 'cancel', 'stranger'), which }) },
);

async function run(model: Model, todo: Step): Promise<void> {
  if (todo.kind === 'begin') {
    const begun = await ask('POST', `/v2/${todo.repository}/blobs/uploads/`, Buffer.alloc(0));
    expect(begun.status).toBe(202);
    model.uploads.push({ repository: todo.repository, place: begun.headers.get('location') ?? '', bytes: Buffer.alloc(0), isOpen: true });
    return;
  }
  const upload = model.uploads[todo.which % Math.max(1, model.uploads.length)];
  if (upload === undefined) return;
  switch (todo.kind) {
    case 'patch':
      return patch(upload, todo.bytes, todo.range);
    case 'end':
      return end(model, upload, todo.bytes, todo.digest);
    case 'state': {
      const state = await ask('GET', upload.place, Buffer.alloc(0));
      expect(state.status).toBe(upload.isOpen ? 204 : 404);
      if (upload.isOpen) expect(state.headers.get('range')).toBe(`0-${Math.max(0, upload.bytes.length - 1)}`);
      return;
    }
    case 'cancel':
      expect((await ask('DELETE', upload.place, Buffer.alloc(0))).status).toBe(upload.isOpen ? 204 : 404);
      upload.isOpen = false;
      return;
    case 'stranger': {
      const other = upload.place.replace(`/v2/${upload.repository}/`, '/v2/lab/stranger/');
      expect((await ask('PATCH', other, Buffer.from('x'))).status).toBe(404);
    }
  }
}

async function patch(upload: Upload, chunk: Buffer, kind: (Step & { kind: 'patch' })['range']): Promise<void> {
  const at = upload.bytes.length;
  const range = {
    none: undefined,
    right: `${at}-${at + chunk.length - 1}`,
    ahead: `${at + 1}-${at + chunk.length}`,
    again: `0-${chunk.length - 1}`,
    short: `${at}-${at + chunk.length + 5}`,
    nonsense: 'bytes */x',
  }[kind];
  const answer = await ask('PATCH', upload.place, chunk, range === undefined ? {} : { 'content-range': range });
  // A chunk of nothing has no range that could be written.
  const isRight = kind === 'none' || (chunk.length > 0 && (kind === 'right' || (kind === 'again' && at === 0)));
  if (!upload.isOpen) expect(answer.status).toBe(404);
  else if (isRight) {
    upload.bytes = Buffer.concat([upload.bytes, chunk]);
    expect([answer.status, answer.headers.get('range')]).toEqual([202, `0-${Math.max(0, upload.bytes.length - 1)}`]);
  } else if (chunk.length > 0) expect(answer.status).toBe(kind === 'short' ? 400 : 416);
  else expect(answer.status === 202 || answer.status === 400 || answer.status === 416).toBe(true);
}

async function end(model: Model, upload: Upload, rest: Buffer, kind: (Step & { kind: 'end' })['digest']): Promise<void> {
  const whole = Buffer.concat([upload.bytes, rest]);
  const digest = { right: sha256(whole), wrong: sha256(Buffer.from('wrong')), none: undefined, nonsense: 'sha256:x/../y' }[kind];
  const query = digest === undefined ? '' : `?digest=${digest}`;
  const answer = await ask('PUT', `${upload.place}${query}`, rest);
  if (kind === 'none' || kind === 'nonsense') {
    // Refused before anything is read: the upload stays what it was.
    expect(answer.status).toBe(400);
    return;
  }
  expect(answer.status).toBe(upload.isOpen ? (kind === 'right' ? 201 : 400) : 404);
  if (upload.isOpen && kind === 'right') model.blobs.set(`${upload.repository} ${sha256(whole)}`, whole);
  upload.isOpen = false;
}

it('end as the model says, and what was created is what was sent', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const model: Model = { uploads: [], blobs: new Map() };
      for (const todo of [{ kind: 'begin', repository: 'lab/a' } as const, ...steps]) await run(model, todo);
      for (const [key, content] of model.blobs) {
        const [name, digest] = key.split(' ');
        expect(Buffer.from(await (await fetch(`${proxy.url}/v2/${name}/blobs/${digest}`)).arrayBuffer()), key).toEqual(content);
      }
      for (const upload of model.uploads) if (upload.isOpen) await ask('DELETE', upload.place, Buffer.alloc(0));
      expect(readdirSync(join(proxy.root, 'own/uploads'))).toEqual([]);
    }),
    { numRuns: soak ? 1000 : 15, seed },
  );
}, 3_600_000);

it('at once into one upload: each chunk is taken whole or refused, and the end is what was taken', async () => {
  for (let round = 0; round < (soak ? 200 : 5); round++) {
    const begun = await ask('POST', '/v2/lab/race/blobs/uploads/', Buffer.alloc(0));
    const place = begun.headers.get('location') ?? '';
    const chunks = Array.from({ length: 6 }, (_, index) => Buffer.alloc(20_000, index + 1));
    const answers = await Promise.all(chunks.map((chunk) => ask('PATCH', place, chunk, { 'content-range': `0-${chunk.length - 1}` })));
    const statuses = answers.map((answer) => answer.status);
    expect(
      statuses.filter((status) => status === 202),
      String(statuses),
    ).toHaveLength(1);
    expect(
      statuses.every((status) => [202, 409, 416].includes(status)),
      String(statuses),
    ).toBe(true);
    const taken = chunks[statuses.indexOf(202)] ?? Buffer.alloc(0);
    const ends = await Promise.all([1, 2].map(() => ask('PUT', `${place}?digest=${sha256(taken)}`, Buffer.alloc(0))));
    expect(ends.map((answer) => answer.status).sort()[0]).toBe(201);
    expect(Buffer.from(await (await fetch(`${proxy.url}/v2/lab/race/blobs/${sha256(taken)}`)).arrayBuffer())).toEqual(taken);
  }
}, 3_600_000);
