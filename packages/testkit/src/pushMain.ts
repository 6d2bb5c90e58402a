/** The part of push.ts that runs inside a test host: `node pushMain.ts DIRECTORY`, with push.json and the blobs in it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { blobPath } from './imageArchives.ts';
import { type PushItem, type PushTarget, pushItems } from './push.ts';

const directory = process.argv[2] ?? '.';
const { items, target } = JSON.parse(readFileSync(join(directory, 'push.json'), 'utf8')) as { items: PushItem[]; target: PushTarget };
await pushItems(items, target, (digest) => readFileSync(join(directory, blobPath(digest))));
