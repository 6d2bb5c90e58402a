/** A Dockerfile's text as stages of instructions. */
import { errorMessage, InvalidParameter } from '@flotilla/errors';
import { noteLocation } from '../errorSource.ts';
import type { Arg, Dockerfile, From, Instruction, ReadWarning, Stage } from './instructions.ts';
import { type LogicalLine, logicalLines, physicalLines, readDirectives } from './lines.ts';
import { readInstruction } from './readInstruction.ts';

/** @throws InvalidParameter in dockerd's words, with the line. */
export function parseDockerfile(text: string): Dockerfile {
  const lines = physicalLines(text);
  const directives = readDirectives(lines);
  const warnings: ReadWarning[] = [];
  const metaArgs: Arg[] = [];
  const stages: { index: number; name?: string; from: From; instructions: Instruction[] }[] = [];
  const logical = logicalLines(lines, directives.escapeToken, warnings);
  if (logical.length === 0) throw new InvalidParameter('file with no instructions');
  for (const line of logical) {
    located(line, () => {
      const read = readInstruction(line, directives.escapeToken);
      const stage = stages.at(-1);
      if (read.kind === 'from') {
        const { name, ...from } = read;
        stages.push({ index: stages.length, ...(name === undefined ? {} : { name }), from, instructions: [] });
      } else if (stage !== undefined) stage.instructions.push(read);
      else if (read.kind === 'arg') metaArgs.push(read);
      else throw new Error('no build stage in current context');
    });
  }
  return { directives, metaArgs, stages: stages satisfies Stage[], warnings };
}

/** An ONBUILD trigger. @throws InvalidParameter */
export function parseInstructionLine(text: string): Instruction {
  const lines = physicalLines(text);
  const [line] = logicalLines(lines, '\\', []);
  if (line === undefined) throw new InvalidParameter('file with no instructions');
  return located(line, () => {
    const read = readInstruction(line, '\\');
    if (read.kind === 'from') throw new Error("FROM isn't allowed as an ONBUILD trigger");
    return read;
  });
}

function located<T>({ location }: LogicalLine, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const error = new InvalidParameter(`dockerfile parse error on line ${location.startLine}: ${errorMessage(cause)}`, { cause });
    noteLocation(error, location);
    throw error;
  }
}
