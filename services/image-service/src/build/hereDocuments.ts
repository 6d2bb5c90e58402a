/** Here-documents of RUN: given to the shell, or run as a script of their own when they say by whom. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Mount } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { HereDoc, Run } from './dockerfile/instructions.ts';
import type { RootFilesystems } from './rootFilesystems.ts';

const scripts = '/dev/pipes';

/** The only document of a command that is nothing else. */
function loneDocument({ command, hereDocs }: Run): HereDoc | undefined {
  const [only] = hereDocs;
  return only !== undefined && /^<<-?\s*(["']?)[^\s"'<>]+\1\s*$/.test(command.args[0] ?? '') ? only : undefined;
}

/** The arguments of the container, the shell included. */
export function commandOf(instruction: Run, shell: readonly string[]): string[] {
  const { command, hereDocs } = instruction;
  if (command.form === 'exec' && hereDocs.length === 0) return [...command.args];
  const [text = ''] = command.args;
  if (hereDocs.length === 0) return [...shell, text];
  if (command.form === 'exec') throw new InvalidParameter(`parsing produced an invalid run command: ${command.args.join(' ')}`);
  const lone = loneDocument(instruction);
  if (lone === undefined) return [...shell, [text, ...hereDocs.map(({ name, content }) => `${content}${name}`)].join('\n')];
  return isScript(lone) ? [`${scripts}/${lone.name}`] : [...shell, lone.content];
}

function isScript({ content }: HereDoc): boolean {
  return content.startsWith('#!');
}

/** The file that a document which is a script of its own becomes. */
export function scriptMounts(instruction: Run, roots: RootFilesystems): Mount[] {
  const lone = loneDocument(instruction);
  if (lone === undefined || !isScript(lone)) return [];
  const path = join(roots.newDirectory('script'), 'script');
  writeFileSync(path, lone.content);
  chmodSync(path, 0o755);
  return [{ Type: 'bind', Source: path, Target: `${scripts}/${lone.name}`, ReadOnly: true }];
}
