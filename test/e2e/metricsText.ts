/** Prometheus' text format, read strictly: each series has its help and type before it, names and labels are well formed, histograms add up. */

export interface Series {
  readonly type: string;
  readonly samples: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

const sampleForm = /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? (\S+)$/;

/** @throws Error that names the line. */
export function parseMetrics(text: string): Map<string, Series> {
  if (!text.endsWith('\n')) throw new Error('no newline at the end');
  const found = new Map<string, { type: string; samples: Series['samples'][number][] }>();
  let current = '';
  for (const line of text.split('\n').filter(Boolean)) {
    const [, word, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (word === 'HELP') current = name;
    else if (word === 'TYPE') {
      if (name !== current || found.has(name)) throw new Error(`out of place: ${line}`);
      found.set(name, { type: rest, samples: [] });
    } else if (!line.startsWith('#')) {
      const sample = sampleForm.exec(line);
      const series = found.get(current);
      const own = series?.type === 'histogram' ? new RegExp(`^${current}_(bucket|sum|count)$`) : new RegExp(`^${current}$`);
      if (sample === null || series === undefined || !own.test(sample[1] ?? '')) throw new Error(`no sample of ${current}: ${line}`);
      const labels = Object.fromEntries(
        [...(sample[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = '', value = '']) => [key, value]),
      );
      const value = sample[3] === '+Inf' ? Number.POSITIVE_INFINITY : Number(sample[3]);
      if (Number.isNaN(value)) throw new Error(`no number: ${line}`);
      series.samples.push({ name: sample[1] ?? '', labels, value });
    }
  }
  for (const [name, { type, samples }] of found) if (type === 'histogram') checkHistogram(name, samples);
  return found;
}

function checkHistogram(name: string, samples: Series['samples']): void {
  const last = new Map<string, number>();
  const keyOf = ({ le: _le, ...labels }: Readonly<Record<string, string>>): string => JSON.stringify(labels);
  for (const sample of samples) {
    const key = keyOf(sample.labels);
    if (sample.name === `${name}_bucket`) {
      if (sample.value < (last.get(key) ?? 0)) throw new Error(`${name}: buckets shrink at ${JSON.stringify(sample.labels)}`);
      last.set(key, sample.value);
    } else if (sample.name === `${name}_count` && sample.value !== last.get(key))
      throw new Error(`${name}: the last bucket is not the count of ${key}`);
  }
}
