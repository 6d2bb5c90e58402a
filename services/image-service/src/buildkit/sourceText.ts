/** A Dockerfile as clients are shown it: with warnings, errors and answers, each of which names lines of it. Encoded and split once for all of them. */
export class SourceText {
  readonly filename: string;
  readonly text: string;
  readonly bytes: Buffer;
  readonly lines: readonly string[];

  constructor(filename: string, text: string) {
    this.filename = filename;
    this.text = text;
    this.bytes = Buffer.from(text);
    this.lines = text.split('\n');
  }
}
