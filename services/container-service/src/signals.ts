/** Signals as clients write them: `SIGTERM`, `TERM`, `term`, `15`, `RTMIN+3`. */
import { constants } from 'node:os';
import { InvalidParameter } from '@flotilla/errors';

const largest = 64;
const realTimeMinimum = 34;

/** @throws InvalidParameter in dockerd's words. */
export function parseSignal(text: string): number {
  const invalid = (): InvalidParameter => new InvalidParameter(`invalid signal: ${text}`);
  if (/^-?\d+$/.test(text)) {
    const number = Number(text);
    if (number < 1 || number > largest) throw invalid();
    return number;
  }
  const name = text.toUpperCase().replace(/^SIG/, '');
  const realTime = /^RTM(IN|AX)(?:([+-])(\d{1,2}))?$/.exec(name);
  if (realTime !== null) {
    const base = realTime[1] === 'IN' ? realTimeMinimum : largest;
    const number = base + (realTime[2] === '-' ? -1 : 1) * Number(realTime[3] ?? 0);
    if (number < realTimeMinimum || number > largest) throw invalid();
    return number;
  }
  const aliases: Record<string, string> = { CLD: 'CHLD', POLL: 'IO' };
  const number = (constants.signals as Record<string, number>)[`SIG${aliases[name] ?? name}`];
  if (number === undefined) throw invalid();
  return number;
}
