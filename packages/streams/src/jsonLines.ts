/** Streams of JSON documents, one a line: progress of pull, push, load and build, and events. */

/** A document and its line end (`\r\n`, as dockerd writes them). */
export function encodeLine(document: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(document)}\r\n`);
}

/** Follows the last line of an answer that its reader must not take for whole when the one who gives it has died. */
export const lastWord = Buffer.from([0]);

/** The documents of a stream, as they arrive. @throws SyntaxError on a line that is not JSON, RangeError on one above `maxLineBytes`. */
export async function* parseLines(stream: AsyncIterable<Uint8Array>, maxLineBytes = 16 * 1024 * 1024): AsyncGenerator<unknown> {
  const parts: Buffer[] = [];
  let held = 0;
  for await (const chunk of stream) {
    let rest = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let newline = rest.indexOf(10); newline >= 0; newline = rest.indexOf(10)) {
      parts.push(rest.subarray(0, newline));
      const line = Buffer.concat(parts).toString('utf8').trim();
      parts.length = 0;
      held = 0;
      rest = rest.subarray(newline + 1);
      if (line !== '') yield JSON.parse(line);
    }
    if (rest.length > 0) {
      parts.push(rest);
      held += rest.length;
      if (held > maxLineBytes) throw new RangeError(`a line is longer than ${maxLineBytes} bytes`);
    }
  }
  const line = Buffer.concat(parts).toString('utf8').trim();
  if (line !== '') yield JSON.parse(line);
}
