/** dockerd's settings that Flotilla has no switch for: as flags and in the file, they are accepted where they ask for what is so anyway. */
import type { Directive, RawSettings } from './directives.ts';

export interface FixedDirective extends Directive {
  /** Whether Flotilla does what this value asks for. */
  readonly isSo: (value: unknown, settings: RawSettings) => boolean;
}

const anyOf = (): boolean => true;
const only =
  (wanted: boolean) =>
  (value: unknown): boolean =>
    value === wanted;

function fixed(key: string, kind: Directive['kind'], flag: string, help: string, isSo: FixedDirective['isSo']): FixedDirective {
  return { key, kind, flag, help, isSo };
}

export const fixedDirectives: readonly FixedDirective[] = [
  fixed('live-restore', 'boolean', '--live-restore [bool]', 'containers always outlive the services', anyOf),
  fixed('userland-proxy', 'boolean', '--userland-proxy [bool]', 'there is no proxy process a port', anyOf),
  fixed('userland-proxy-path', 'string', '--userland-proxy-path <path>', 'there is no proxy process a port', anyOf),
  fixed('storage-driver', 'string', '-s, --storage-driver <name>', 'overlay2', (value) => value === 'overlay2' || value === ''),
  fixed(
    'ip6tables',
    'boolean',
    '--ip6tables [bool]',
    '--iptables=false leaves the rules of both families away',
    (value, settings) => value === true || settings.get('iptables') === false,
  ),
  fixed('experimental', 'boolean', '--experimental [bool]', 'there are no experimental features', only(false)),
  fixed('selinux-enabled', 'boolean', '--selinux-enabled [bool]', 'there is no SELinux support', only(false)),
  fixed('userns-remap', 'string', '--userns-remap <user>', 'users are never mapped', (value) => value === '' || value === 'host'),
  fixed('raw-logs', 'boolean', '--raw-logs [bool]', 'logs have no colours', anyOf),
  fixed('exec-opts', 'list', '--exec-opt <key=value>', 'native.cgroupdriver=cgroupfs', (value) =>
    (value as string[]).every((option) => option === 'native.cgroupdriver=cgroupfs'),
  ),
];

/** The first of the settings that asks for something else, and what it asks for. */
export function unmetDirective(settings: RawSettings): [directive: FixedDirective, value: unknown] | undefined {
  const unmet = fixedDirectives.find(({ key, isSo }) => settings.has(key) && !isSo(settings.get(key), settings));
  return unmet && [unmet, settings.get(unmet.key)];
}

/** `features` of daemon.json: `buildkit` may be on or off, and nothing else can be switched on. */
export function areFeaturesSo(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).every(([name, enabled]) => enabled === false || (name === 'buildkit' && enabled === true));
}
