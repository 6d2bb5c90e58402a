/** `--security-opt`, as dockerd reads it. */
import { InvalidParameter } from '@flotilla/errors';
import { parseProfile } from './seccompProfile.ts';

export interface SecurityOptions {
  readonly noNewPrivileges: boolean;
  /** '', builtin, unconfined or a profile's JSON */
  readonly seccomp: string;
  readonly apparmor: string;
  /** the cgroup file system is writable inside (v2, with a namespace of its own) */
  readonly writableCgroups: boolean;
}

/**
 * @param noNewPrivileges - what holds where the options do not say.
 * @throws InvalidParameter
 */
export function parseSecurityOptions(options: readonly string[], noNewPrivileges = false): SecurityOptions {
  const parsed = { noNewPrivileges, seccomp: '', apparmor: '', writableCgroups: false };
  for (const option of options) {
    if (option === 'no-new-privileges') {
      parsed.noNewPrivileges = true;
      continue;
    }
    if (option === 'disable') continue;
    // `:` is the separator of old.
    const at = option.includes('=') ? option.indexOf('=') : option.indexOf(':');
    if (at < 0) throw new InvalidParameter(`invalid --security-opt 1: ${JSON.stringify(option)}`);
    const value = option.slice(at + 1);
    switch (option.slice(0, at)) {
      case 'label':
        break;
      case 'apparmor':
        parsed.apparmor = value;
        break;
      case 'seccomp':
        if (value !== 'unconfined' && value !== 'builtin') parseProfile(value);
        parsed.seccomp = value;
        break;
      case 'no-new-privileges':
        parsed.noNewPrivileges = parseBoolean(value, option);
        break;
      case 'writable-cgroups':
        parsed.writableCgroups = parseBoolean(value, option);
        break;
      default:
        throw new InvalidParameter(`invalid --security-opt 2: ${JSON.stringify(option)}`);
    }
  }
  return parsed;
}

function parseBoolean(value: string, option: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(value)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(value)) return false;
  throw new InvalidParameter(`invalid --security-opt 2: ${JSON.stringify(option)}`);
}
