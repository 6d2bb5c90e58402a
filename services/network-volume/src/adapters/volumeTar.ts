/**
 * A directory's content as a tar archive and back, by GNU tar: owners by number, modes, times, links, holes, ACLs and extended attributes. tar itself
 * keeps a hostile archive inside the directory: names with `..` are errors, absolute ones lose their slash, links to elsewhere are made last.
 */
import { spawn } from 'node:child_process';
import { type Readable, Transform, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { InvalidParameter, System } from '@flotilla/errors';

const attributes = ['--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '--sparse'];
const maxComplaintBytes = 2_048;
/** tar's exit code for files that changed while they were read. */
const changed = 1;
const endBytes = 1_024;

/** Writes an archive of a directory. Files that change meanwhile are as they were when they were read. */
export async function packDirectory(directory: string, write: (chunk: Buffer) => Promise<void>, signal: AbortSignal): Promise<void> {
  const child = spawn('tar', ['--create', '--format=posix', ...attributes, '--file=-', `--directory=${directory}`, '.'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = (): void => void child.kill('SIGKILL');
  signal.addEventListener('abort', kill);
  const end = ended(child);
  try {
    for await (const chunk of child.stdout) await write(chunk as Buffer);
  } catch (error) {
    kill();
    throw error;
  } finally {
    signal.removeEventListener('abort', kill);
  }
  const { code, complaint } = await end;
  if (code !== 0 && code !== changed) throw new System(`tar: ${complaint}`);
}

/** Unpacks an archive into a directory. @throws InvalidParameter with tar's words for one that is cut, hostile or none. */
export async function unpackInto(directory: string, archive: Readable): Promise<void> {
  const child = spawn(
    'tar',
    ['--extract', ...attributes, '--same-owner', '--same-permissions', '--delay-directory-restore', '--file=-', `--directory=${directory}`],
    { stdio: ['pipe', 'ignore', 'pipe'] },
  );
  const end = ended(child);
  const tail = new TailWatch();
  // tar leaves before the padding at the end is read.
  const feeding = feed(archive, tail, child.stdin);
  const { code, complaint } = await end;
  await feeding;
  if (code !== 0) throw new InvalidParameter(`the archive cannot be unpacked: ${complaint}`);
  if (!tail.isEnd()) throw new InvalidParameter('the archive is cut: its end is missing');
}

async function feed(archive: Readable, tail: TailWatch, target: Writable): Promise<void> {
  target.on('error', () => undefined);
  try {
    await pipeline(archive, tail, async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        if (!target.writable || target.write(chunk)) continue;
        await new Promise<void>((resolve) => {
          target.once('drain', resolve);
          target.once('close', resolve);
        });
      }
    });
  } finally {
    target.end();
  }
}

/** Knows whether what passed ended as an archive ends: with two blocks of zeros. */
class TailWatch extends Transform {
  private last: Buffer = Buffer.alloc(0);

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: (error: null, chunk: Buffer) => void): void {
    this.last = Buffer.concat([this.last, chunk.subarray(-endBytes)]).subarray(-endBytes);
    done(null, chunk);
  }

  isEnd(): boolean {
    return this.last.length === endBytes && this.last.every((byte) => byte === 0);
  }
}

function ended(child: ReturnType<typeof spawn>): Promise<{ code: number | null; complaint: string }> {
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (complaint.length < maxComplaintBytes) complaint += chunk.toString();
  });
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: null, complaint: error.message }));
    child.on('close', (code) => resolve({ code, complaint: complaint.trim().split('\n')[0] ?? '' }));
  });
}
