/** Whatever a layer holds: the tree is built inside its root or refused, and nothing outside is touched. As root, for owners and devices. */
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isLayerFault, TreeBuilder } from '../src/layers/treeBuilder.ts';
import { TarParser } from '../src/tar/parser.ts';
import { encodeHeader, padding, plainEntry, trailer } from '../src/tar/writer.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'flotilla-tree-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const part = fc.constantFrom('a', 'b', 'c', '..', '.', '', '.wh.a', '.wh.b', '.wh..wh..opq', 'outside', 'root');
const path = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/') || 'x');
const target = fc.oneof(
  path,
  path.map((text) => `/${text}`),
  fc.constantFrom('../outside', '/etc/passwd', '../../../../../../../../tmp', '..', '/'),
);
const entry = fc.record({
  name: path,
  type: fc.constantFrom('file', 'directory', 'symlink', 'link', 'fifo', 'character' as const),
  linkName: target,
  mode: fc.constantFrom(0o644, 0o755, 0o4755, 0o1777, 0),
  uid: fc.constantFrom(0, 1000),
  content: fc.string({ maxLength: 20 }),
});

/** Everything below a directory: path → kind and content. */
function listing(root: string, below = ''): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(join(root, below))) {
    const at = join(below, name);
    const stat = lstatSync(join(root, at));
    found[at] = `${stat.mode} ${stat.uid} ${stat.mtimeMs} ${stat.isFile() ? readFileSync(join(root, at), 'utf8') : ''}`;
    if (stat.isDirectory()) Object.assign(found, listing(root, at));
  }
  return found;
}

describe('a tree of any entries', () => {
  it('stays inside its root', () => {
    let run = 0;
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
        const base = join(directory, `${++run}`);
        const root = join(base, 'root');
        mkdirSync(join(base, 'outside'), { recursive: true });
        mkdirSync(root);
        writeFileSync(join(base, 'outside', 'a'), 'untouched');
        const before = listing(base);
        delete before.root;
        const builder = new TreeBuilder({ root, limits: { maxBytes: 1e6, maxEntries: 1000 }, whiteouts: true });
        const parser = new TarParser(builder);
        const tar = entries.flatMap(({ content, ...fields }) => {
          const text = fields.type === 'file' ? content : '';
          const isLink = fields.type === 'symlink' || fields.type === 'link';
          const header = plainEntry({
            ...fields,
            linkName: isLink ? fields.linkName : '',
            sizeBytes: Buffer.byteLength(text),
            devMajor: 1,
            devMinor: 3,
          });
          return [encodeHeader(header), Buffer.from(text), padding(Buffer.byteLength(text))];
        });
        try {
          parser.push(Buffer.concat([...tar, trailer]));
          parser.end();
          builder.finish();
        } catch (error) {
          builder.abandon();
          expect(isLayerFault(error), String(error)).toBe(true);
        }
        const after = Object.fromEntries(Object.entries(listing(base)).filter(([at]) => at !== 'root' && !at.startsWith('root/')));
        expect(after).toEqual(before);
        rmSync(base, { recursive: true, force: true });
      }),
      { numRuns: 400 },
    );
  });
});
