/** How long a DNS message may be kept, read and written in its bytes (RFC 1035, RFC 2308): decoding and encoding would lose what we do not know. Pure. */

const headerBytes = 12;
const typeOpt = 41;
const typeSoa = 6;
const [noError, noSuchName] = [0, 3];
const truncatedBit = 0x02;

interface RecordPlace {
  readonly type: number;
  readonly ttlAt: number;
  readonly dataAt: number;
  readonly dataBytes: number;
}

/** @returns where the next field begins; a name ends with its root label or with a pointer. */
function skipName(message: Buffer, from: number): number {
  let at = from;
  for (;;) {
    const length = message.readUInt8(at);
    if (length === 0) return at + 1;
    if ((length & 0xc0) === 0xc0) return at + 2;
    at += length + 1;
  }
}

/** @throws RangeError for a message that is cut. */
function records(message: Buffer): { answers: RecordPlace[]; others: RecordPlace[] } {
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) => message.readUInt16BE(at)) as [
    number,
    number,
    number,
    number,
  ];
  let at = headerBytes;
  for (let index = 0; index < questions; index += 1) at = skipName(message, at) + 4;
  const found: RecordPlace[] = [];
  for (let index = 0; index < answers + authorities + additionals; index += 1) {
    const fixed = skipName(message, at);
    const dataBytes = message.readUInt16BE(fixed + 8);
    found.push({ type: message.readUInt16BE(fixed), ttlAt: fixed + 4, dataAt: fixed + 10, dataBytes });
    at = fixed + 10 + dataBytes;
  }
  return { answers: found.slice(0, answers), others: found.slice(answers).filter(({ type }) => type !== typeOpt) };
}

/** Seconds an answer may be kept; 0: not at all. A name that is not there is kept as long as its zone says. */
export function keepSeconds(message: Buffer): number {
  const code = message.readUInt8(3) & 0x0f;
  if ((code !== noError && code !== noSuchName) || (message.readUInt8(2) & truncatedBit) !== 0) return 0;
  try {
    const { answers, others } = records(message);
    if (code === noError && answers.length > 0) return Math.min(...[...answers, ...others].map(({ ttlAt }) => message.readUInt32BE(ttlAt)));
    const zone = others.find(({ type }) => type === typeSoa);
    if (zone === undefined) return 0;
    return Math.min(message.readUInt32BE(zone.ttlAt), message.readUInt32BE(zone.dataAt + zone.dataBytes - 4));
  } catch (error) {
    if (error instanceof RangeError) return 0;
    throw error;
  }
}

/** A copy in which every record is as many seconds older. */
export function aged(message: Buffer, seconds: number): Buffer {
  const copy = Buffer.from(message);
  const { answers, others } = records(copy);
  for (const { ttlAt } of [...answers, ...others]) copy.writeUInt32BE(Math.max(0, copy.readUInt32BE(ttlAt) - seconds), ttlAt);
  return copy;
}
