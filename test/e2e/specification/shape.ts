/** How a document of the Engine API looks: shapes that tell what is wrong with a value, place by place. */

/** Adds to `problems` what is wrong with `value`; `place` is where it stands. */
export type Shape = (value: unknown, place: string, problems: string[]) => void;

function kindOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : JSON.stringify(value);
}

function check(what: string, holds: (value: unknown) => boolean): Shape {
  return (value, place, problems) => {
    if (!holds(value)) problems.push(`${place} is ${kindOf(value)}, not ${what}`);
  };
}

export const any: Shape = () => undefined;
export const string: Shape = check('a string', (value) => typeof value === 'string');
export const boolean: Shape = check('a boolean', (value) => typeof value === 'boolean');
export const integer: Shape = check('an integer', (value) => Number.isInteger(value));
/** RFC 3339, with as many digits of a second as there are. */
export const time: Shape = check(
  'a time',
  (value) => typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/.test(value),
);

export function oneOf(...words: string[]): Shape {
  return check(
    `one of ${words.map((word) => JSON.stringify(word)).join(', ')}`,
    (value) => typeof value === 'string' && words.includes(value),
  );
}

export function orNull(shape: Shape): Shape {
  return (value, place, problems) => {
    if (value !== null) shape(value, place, problems);
  };
}

export function list(item: Shape): Shape {
  return (value, place, problems) => {
    if (!Array.isArray(value)) problems.push(`${place} is ${kindOf(value)}, not a list`);
    else for (const [index, each] of value.entries()) item(each, `${place}[${index}]`, problems);
  };
}

export function map(item: Shape): Shape {
  return (value, place, problems) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) problems.push(`${place} is ${kindOf(value)}, not an object`);
    else for (const [key, each] of Object.entries(value)) item(each, `${place}[${JSON.stringify(key)}]`, problems);
  };
}

/** An object with these fields and no others. Those of `sometimes` may be left out. */
export function fields(always: Readonly<Record<string, Shape>>, sometimes: Readonly<Record<string, Shape>> = {}): Shape {
  return (value, place, problems) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      problems.push(`${place} is ${kindOf(value)}, not an object`);
      return;
    }
    const document = value as Readonly<Record<string, unknown>>;
    for (const [name, shape] of Object.entries(always)) {
      if (name in document) shape(document[name], `${place}.${name}`, problems);
      else problems.push(`${place}.${name} is missing`);
    }
    for (const [name, shape] of Object.entries(sometimes)) if (name in document) shape(document[name], `${place}.${name}`, problems);
    for (const name of Object.keys(document))
      if (!(name in always) && !(name in sometimes)) problems.push(`${place}.${name} is no field of it`);
  };
}

/** What is wrong with a document; empty when it has the shape. */
export function problemsOf(shape: Shape, document: unknown): string[] {
  const problems: string[] = [];
  shape(document, '', problems);
  return problems;
}
