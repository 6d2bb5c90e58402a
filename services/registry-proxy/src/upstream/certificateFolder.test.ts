import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { CertificateFolder } from './certificateFolder.ts';

const root = mkdtempSync(join(tmpdir(), 'flotilla-certs-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const put = (host: string, files: Record<string, string>): void => {
  mkdirSync(join(root, host), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, host, name), text);
};

it('finds authorities and a pair by the host’s name, and nothing outside its folder', async () => {
  put('a.example:5000', { 'ca.crt': 'one', 'other.crt': 'two', 'client.cert': 'certificate', 'client.key': 'key', 'readme.txt': '' });
  const folder = new CertificateFolder(root);
  expect(await folder.of('a.example:5000')).toMatchObject({ ca: 'one\ntwo', certificate: 'certificate', key: 'key' });
  for (const host of ['a.example', '..', '../x', '.', '']) expect(await folder.of(host), host).toBeUndefined();
});

it.each([
  ['missing key client.key for client certificate client.cert', { 'client.cert': '' }],
  ['missing client certificate client.cert for key client.key', { 'client.key': '' }],
  ['more than one client certificate', { 'a.cert': '', 'a.key': '', 'b.cert': '', 'b.key': '' }],
])('says what is wrong: %s', async (words, files) => {
  const host = words.replaceAll(' ', '-');
  put(host, files);
  await expect(new CertificateFolder(root).of(host)).rejects.toThrow(words);
});
