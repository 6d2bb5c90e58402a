/** HEALTHCHECK: its flags and its command. */
import type { Healthcheck } from '@flotilla/oci';
import type { Flags } from './flags.ts';
import { jsonList } from './words.ts';

const units: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, μs: 1e3, ms: 1e6, s: 1e9, m: 6e10, h: 3.6e12 };

/** @throws Error in dockerd's words. */
export function readHealthcheck(text: string, flags: Flags): Healthcheck {
  const [, type = '', rest = ''] = /^(\S+)(?:\s+([\s\S]*))?$/.exec(text) ?? [];
  switch (type.toUpperCase()) {
    case 'NONE':
      if (rest !== '') throw new Error('HEALTHCHECK NONE takes no arguments');
      return { Test: ['NONE'] };
    case 'CMD': {
      const list = jsonList(rest);
      if (rest === '' || list?.length === 0) throw new Error('Missing command after HEALTHCHECK CMD');
      return { Test: list === undefined ? ['CMD-SHELL', rest] : ['CMD', ...list], ...readTimes(flags) };
    }
    default:
      throw new Error(`Unknown type ${JSON.stringify(type.toUpperCase())} in HEALTHCHECK (try CMD)`);
  }
}

function readTimes(flags: Flags): Omit<Healthcheck, 'Test'> {
  const times = {
    Interval: duration(flags.text('interval'), 'interval'),
    Timeout: duration(flags.text('timeout'), 'timeout'),
    StartPeriod: duration(flags.text('start-period'), 'start-period'),
    StartInterval: duration(flags.text('start-interval'), 'start-interval'),
    Retries: retries(flags.text('retries')),
  };
  return Object.fromEntries(Object.entries(times).filter(([, value]) => value !== 0));
}

/** Nanoseconds of a duration as Go writes it. */
function duration(text: string | undefined, flag: string): number {
  if (text === undefined || text === '0') return 0;
  const pieces = [...text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)];
  if (pieces.map(([piece]) => piece).join('') !== text.replace(/^-/, '') || pieces.length === 0)
    throw new Error(`time: invalid duration ${JSON.stringify(text)}`);
  const sum = Math.round(pieces.reduce((total, [, number, unit = '']) => total + Number(number) * (units[unit] ?? 0), 0));
  if (text.startsWith('-')) throw new Error(`Interval ${JSON.stringify(flag)} cannot be negative`);
  if (sum > 0 && sum < 1e6) throw new Error(`Interval ${JSON.stringify(flag)} cannot be less than 1ms`);
  return sum;
}

function retries(text: string | undefined): number {
  if (text === undefined) return 0;
  if (!/^[+-]?\d{1,9}$/.test(text)) throw new Error(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  if (Number(text) < 0) throw new Error(`--retries cannot be negative (${Number(text)})`);
  return Number(text);
}
