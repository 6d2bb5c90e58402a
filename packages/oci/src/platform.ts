/** Platforms `os/arch[/variant]`: parsed, normalised and matched as containerd does. */
import { InvalidName } from './errors.ts';

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
}

const component = /^[A-Za-z0-9_.-]+$/;
const knownSystems = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(' '),
);
const knownArchitectures = new Set(
  '386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm'.split(
    ' ',
  ),
);

function normaliseSystem(os: string): string {
  const lower = os.toLowerCase();
  return lower === 'macos' ? 'darwin' : lower;
}

function normaliseArchitecture(architecture: string, variant: string): [architecture: string, variant: string] {
  const arch = architecture.toLowerCase();
  const kind = variant.toLowerCase();
  switch (arch) {
    case 'i386':
      return ['386', ''];
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return ['amd64', kind === 'v1' ? '' : kind];
    case 'aarch64':
    case 'arm64':
      return ['arm64', kind === '8' || kind === 'v8' ? '' : kind];
    case 'armhf':
      return ['arm', 'v7'];
    case 'armel':
      return ['arm', 'v6'];
    case 'arm':
      return ['arm', kind === '' || kind === '7' ? 'v7' : /^[568]$/.test(kind) ? `v${kind}` : kind];
    default:
      return [arch, kind];
  }
}

/** One spelling for each platform: `Linux/x86_64` is `linux/amd64`. */
export function normalisePlatform(platform: Platform): Platform {
  const [architecture, variant] = normaliseArchitecture(platform.architecture, platform.variant ?? '');
  const { variant: _old, ...rest } = platform;
  return { ...rest, os: normaliseSystem(platform.os), architecture, ...(variant === '' ? {} : { variant }) };
}

const architecturesOfNode: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  arm64: 'arm64',
  arm: 'arm',
  ppc64: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
  loong64: 'loong64',
};

/** This machine's. */
export function hostPlatform(): Platform {
  return normalisePlatform({ os: 'linux', architecture: architecturesOfNode[process.arch] ?? process.arch });
}

/**
 * Parses `os`, `arch`, `os/arch` or `os/arch/variant`; what is left out is this machine's.
 *
 * @throws InvalidName in containerd's words.
 */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  for (const part of parts) {
    if (text.length > 256 || !component.test(part)) {
      const shown = text.slice(0, 256);
      const wrong = part.slice(0, 64);
      throw new InvalidName(
        `"${wrong}" is an invalid component of "${shown}": platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument`,
      );
    }
  }
  const [first = '', second, third] = parts;
  if (parts.length === 1) {
    const os = normaliseSystem(first);
    if (knownSystems.has(os)) return normalisePlatform({ ...hostPlatform(), os });
    const [architecture, variant] = normaliseArchitecture(first, '');
    if (knownArchitectures.has(architecture)) return normalisePlatform({ os: 'linux', architecture, variant });
    throw new InvalidName(`"${text}": unknown operating system or architecture: invalid argument`);
  }
  if (parts.length > 3 || second === undefined) throw new InvalidName(`"${text}": cannot parse platform specifier: invalid argument`);
  return normalisePlatform({ os: first, architecture: second, ...(third === undefined ? {} : { variant: third }) });
}

/** `linux/arm/v7`. */
export function formatPlatform(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter((part) => part !== undefined && part !== '').join('/');
}

/** What a machine of this platform can run, best first: itself, then older variants and 32-bit kin. */
function runnable(platform: Platform): readonly Platform[] {
  const { os, architecture, variant } = normalisePlatform(platform);
  const bases: Platform[] = [{ os, architecture, ...(variant === undefined ? {} : { variant }) }];
  const level = Number(/^v(\d+)/.exec(variant ?? '')?.[1] ?? (architecture === 'arm64' ? 8 : 0));
  if (architecture === 'amd64') {
    for (let lower = level - 1; lower >= 1; lower--) bases.push({ os, architecture, ...(lower === 1 ? {} : { variant: `v${lower}` }) });
    bases.push({ os, architecture: '386' });
  } else if (architecture === 'arm') {
    for (let lower = level - 1; lower >= 5; lower--) bases.push({ os, architecture, variant: `v${lower}` });
  } else if (architecture === 'arm64') {
    for (let lower = level; lower > 8; lower--) bases.push({ os, architecture, ...(lower - 1 === 8 ? {} : { variant: `v${lower - 1}` }) });
    for (let lower = 8; lower >= 5; lower--) bases.push({ os, architecture: 'arm', variant: `v${lower}` });
  }
  return bases;
}

/** How well an image of `candidate` runs where `wanted` is asked for: 0 is exact, undefined not at all. */
export function platformRank(wanted: Platform, candidate: Platform): number | undefined {
  const normal = normalisePlatform(candidate);
  const rank = runnable(wanted).findIndex(
    (base) => base.os === normal.os && base.architecture === normal.architecture && (base.variant ?? '') === (normal.variant ?? ''),
  );
  return rank === -1 ? undefined : rank;
}

export function platformMatches(wanted: Platform, candidate: Platform): boolean {
  return platformRank(wanted, candidate) !== undefined;
}
