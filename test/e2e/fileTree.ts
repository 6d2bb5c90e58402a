/** A directory tree as a document to compare: of every file its kind, mode, owner, time, content, links and attributes. Run as a program it prints those of its arguments, as a list. */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { lgetxattr, llistxattr } from '@flotilla/syscalls';

export interface FileFacts {
  /** Type and permission bits, octal. */
  readonly mode: string;
  readonly owner: string;
  /** Whole seconds. */
  readonly mtime: number;
  /** Digest of a file's content, target of a link, number of a device. */
  readonly content: string;
  /** The first path of the same inode. */
  readonly sameAs: string;
  readonly xattrs: Readonly<Record<string, string>>;
}

export type FileTree = Readonly<Record<string, FileFacts>>;

/** The tree below `root`, by path; the root itself is left out. Attributes of overlay itself are too. */
export function fileTree(root: string): FileTree {
  const tree: Record<string, FileFacts> = {};
  const firstOf = new Map<string, string>();
  const pending = [''];
  for (let parent = pending.pop(); parent !== undefined; parent = pending.pop()) {
    for (const name of readdirSync(join(root, parent)).sort()) {
      const path = join(parent, name);
      const absolute = join(root, path);
      const stat = lstatSync(absolute);
      if (stat.isDirectory()) pending.push(path);
      tree[path] = {
        mode: stat.mode.toString(8),
        owner: `${stat.uid}:${stat.gid}`,
        mtime: Math.floor(stat.mtimeMs / 1000),
        content: stat.isFile()
          ? createHash('sha256').update(readFileSync(absolute)).digest('hex')
          : stat.isSymbolicLink()
            ? readlinkSync(absolute)
            : `${stat.rdev}`,
        sameAs: `${stat.dev}:${stat.ino}`,
        xattrs: Object.fromEntries(
          llistxattr(absolute)
            .filter((attribute) => !attribute.startsWith('trusted.'))
            .map((attribute) => [attribute, lgetxattr(absolute, attribute)?.toString('hex') ?? '']),
        ),
      };
    }
  }
  // Inode numbers differ from tree to tree: what counts is who shares one.
  for (const path of Object.keys(tree).sort()) {
    const facts = tree[path];
    if (facts === undefined) continue;
    const first = facts.mode.startsWith('4') ? path : (firstOf.get(facts.sameAs) ?? path);
    firstOf.set(facts.sameAs, first);
    tree[path] = { ...facts, sameAs: first };
  }
  return tree;
}

if (import.meta.main) process.stdout.write(JSON.stringify(process.argv.slice(2).map(fileTree)));
