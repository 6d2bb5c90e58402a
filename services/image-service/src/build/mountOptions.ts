/** `RUN --mount=type=…,…`: its options, variables expanded, checked. @see docs.docker.com Dockerfile reference, RUN --mount */
import { InvalidParameter } from '@flotilla/errors';
import { cleanPath } from './copy/paths.ts';
import type { RunMount } from './dockerfile/instructions.ts';
import type { MountRequest } from './runMounts.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const types = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'] as const;
const sharings = ['shared', 'private', 'locked'] as const;
const units: Readonly<Record<string, number>> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 };

/** @throws InvalidParameter in BuildKit's words. */
export function toMountRequest({ options, text }: RunMount, expand: (text: string) => string): MountRequest {
  const refuse = (problem: string): InvalidParameter => new InvalidParameter(`${problem} in ${JSON.stringify(text)}`);
  const values = options.map(({ key, value }) => ({ key, value: value === undefined ? undefined : expand(value) }));
  const wanted = values.find(({ key }) => key === 'type')?.value ?? 'bind';
  const type = types.find((each) => each === wanted);
  if (type === undefined) throw refuse(`unsupported mount type ${JSON.stringify(wanted)}`);
  const request: Mutable<MountRequest> = {
    type,
    target: '',
    source: '',
    from: '',
    readOnly: type === 'bind',
    id: '',
    variable: '',
    sharing: 'shared',
    sizeBytes: 0,
    mode: undefined,
    uid: 0,
    gid: 0,
    required: false,
  };
  for (const { key, value } of values) {
    if (key !== 'type' && !apply(request, key, value, refuse)) {
      throw refuse(value === undefined ? `invalid field '${key}' must be a key=value pair` : `unexpected key '${key}'`);
    }
  }
  if (request.target === '' && ['bind', 'cache', 'tmpfs'].includes(type)) throw refuse('target is required');
  if (request.from === '' && type === 'cache' && request.source !== '') throw refuse('a cache with a source needs from');
  if (type === 'secret' && request.id === '') request.id = (request.source || request.target).split('/').pop() ?? '';
  return request;
}

/** @returns whether there is such an option. */
function apply(request: Mutable<MountRequest>, key: string, value: string | undefined, refuse: (problem: string) => Error): boolean {
  switch (key) {
    case 'readonly':
    case 'ro':
      request.readOnly = flag(key, value, refuse);
      return true;
    case 'readwrite':
    case 'rw':
      request.readOnly = !flag(key, value, refuse);
      return true;
    case 'required':
      request.required = flag(key, value, refuse);
      return true;
    default:
      return value !== undefined && applyValue(request, key, value, refuse);
  }
}

function applyValue(request: Mutable<MountRequest>, key: string, value: string, refuse: (problem: string) => Error): boolean {
  switch (key) {
    case 'target':
    case 'dst':
    case 'destination':
      request.target = value;
      return true;
    case 'source':
    case 'src':
      request.source = value;
      return true;
    case 'from':
      request.from = value;
      return true;
    case 'id':
      request.id = value;
      return true;
    case 'env':
      request.variable = value;
      return request.type === 'secret';
    case 'sharing': {
      const sharing = sharings.find((each) => each === value.toLowerCase());
      if (sharing === undefined) throw refuse(`unsupported sharing value ${JSON.stringify(value)}`);
      request.sharing = sharing;
      return true;
    }
    case 'size':
      request.sizeBytes = size(value, refuse);
      return true;
    case 'mode':
      if (!/^0?[0-7]{1,4}$/.test(value)) throw refuse(`invalid value ${value} for mode`);
      request.mode = Number.parseInt(value, 8);
      return true;
    case 'uid':
    case 'gid':
      if (!/^\d{1,10}$/.test(value)) throw refuse(`invalid value ${value} for ${key}`);
      request[key] = Number(value);
      return true;
    default:
      return false;
  }
}

function flag(key: string, value: string | undefined, refuse: (problem: string) => Error): boolean {
  if (value === undefined || ['1', 't', 'true'].includes(value.toLowerCase())) return true;
  if (['0', 'f', 'false'].includes(value.toLowerCase())) return false;
  throw refuse(`invalid value for ${key}: ${value}`);
}

function size(text: string, refuse: (problem: string) => Error): number {
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text) ?? [];
  if (number === '') throw refuse(`invalid value for size: ${text}`);
  return Math.floor(Number(number) * (units[unit.toLowerCase()] ?? 1));
}

/** Where a mount goes, as an absolute path. @throws InvalidParameter for the root. */
export function targetOf({ target, type }: MountRequest, workingDirectory: string): string {
  const clean = cleanPath(target.startsWith('/') ? target : `${workingDirectory}/${target}`);
  if (clean === '') throw new InvalidParameter(`invalid mount target "/" of a mount of type ${type}`);
  return `/${clean}`;
}
