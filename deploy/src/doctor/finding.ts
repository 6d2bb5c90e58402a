/** What `flotilla doctor` says of one thing. */
export interface Finding {
  readonly what: string;
  /** `missing`: Flotilla does not work; `warning`: something does not; `ok`. */
  readonly state: 'ok' | 'warning' | 'missing';
  readonly detail: string;
  /** How to mend it. */
  readonly mend: string;
}

export function ok(what: string, detail = ''): Finding {
  return { what, state: 'ok', detail, mend: '' };
}

export function warning(what: string, detail: string, mend: string): Finding {
  return { what, state: 'warning', detail, mend };
}

export function missing(what: string, detail: string, mend: string): Finding {
  return { what, state: 'missing', detail, mend };
}
