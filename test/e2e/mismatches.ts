/** Whether a JSON document has the fields and types that a table says: no more, no less, and nothing of another kind. */

/** Field → type. */
type Shape = Readonly<Record<string, string>>;
/** By name, as other fields' types use it. */
export type Shapes = Readonly<Record<string, Shape>>;

/** What is not as the API says, each with its path; empty when all is. */
export function mismatches(value: unknown, type: string, shapes: Shapes, path = ''): string[] {
  if (type.endsWith('?') || type.endsWith('~')) return value === null ? [] : mismatches(value, type.slice(0, -1), shapes, path);
  if (type.startsWith('map ')) {
    if (!isObject(value)) return [`${path}: ${kindOf(value)}, not an object`];
    const itemType = type.slice('map '.length).replace(/^\((.*)\)$/, '$1');
    return Object.entries(value).flatMap(([key, item]) => mismatches(item, itemType, shapes, `${path}[${JSON.stringify(key)}]`));
  }
  if (type.endsWith('[]')) {
    if (!Array.isArray(value)) return [`${path}: ${kindOf(value)}, not a list`];
    return value.flatMap((item, index) => mismatches(item, type.slice(0, -2), shapes, `${path}[${index}]`));
  }
  if (type.startsWith('"')) {
    return type.split('|').includes(JSON.stringify(value)) ? [] : [`${path}: ${JSON.stringify(value)}, not one of ${type}`];
  }
  const shape = shapes[type];
  if (shape !== undefined)
    return isObject(value) ? fieldMismatches(value, shape, shapes, path) : [`${path}: ${kindOf(value)}, not ${type}`];
  return kindOf(value) === type ? [] : [`${path}: ${kindOf(value)}, not ${type}`];
}

function fieldMismatches(value: Record<string, unknown>, shape: Shape, shapes: Shapes, path: string): string[] {
  const unknown = Object.keys(value).filter((key) => !(key in shape));
  return [
    ...unknown.map((key) => `${path}.${key}: no field of the API`),
    ...Object.entries(shape).flatMap(([key, type]) => {
      if (key in value) return mismatches(value[key], type, shapes, `${path}.${key}`);
      return type.endsWith('?') ? [] : [`${path}.${key}: absent`];
    }),
  ];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value === 'number' && Number.isInteger(value) ? 'integer' : typeof value;
}
