/** Instructions that change nothing but the configuration. Each gives the words that history shows. */
import { InvalidParameter } from '@flotilla/errors';
import type { Healthcheck } from '@flotilla/oci';
import type { BuildState } from './buildState.ts';
import type { Instruction } from './dockerfile/instructions.ts';
import { healthcheckText, quotedList } from './goFormat.ts';

/** What the instructions change. */
export type ConfigState = Pick<BuildState, 'config' | 'author' | 'hasOwnCommand'> & { readonly shell: readonly string[] };

export interface Expansion {
  readonly word: (text: string) => string;
  readonly words: (text: string) => string[];
  /** Says something to the client. */
  readonly say: (text: string) => void;
}

/** @throws InvalidParameter in dockerd's words. */
export function applyToConfig(state: ConfigState, instruction: Instruction, { word, words, say }: Expansion): string {
  const { config } = state;
  switch (instruction.kind) {
    case 'env': {
      const pairs = instruction.pairs.map(({ key, value }) => [word(key), word(value)] as const);
      for (const [name, value] of pairs) config.Env = withVariable(config.Env ?? [], name, value);
      return `ENV ${pairs.map(([name, value]) => `${name}=${value}`).join(' ')}`;
    }
    case 'label': {
      const pairs = instruction.pairs.map(({ key, value }) => [word(key), word(value)] as const);
      config.Labels = { ...config.Labels, ...Object.fromEntries(pairs) };
      return `LABEL ${pairs.map(([name, value]) => `${name}=${value}`).join(' ')}`;
    }
    case 'maintainer':
      state.author = instruction.name;
      return `MAINTAINER ${state.author}`;
    case 'cmd': {
      config.Cmd = withShell(instruction.command, state.shell);
      state.hasOwnCommand = true;
      return `CMD ${quotedList(config.Cmd)}`;
    }
    case 'entrypoint':
      config.Entrypoint = withShell(instruction.command, state.shell);
      // The command of the image below was made for its own entry point.
      if (!state.hasOwnCommand) delete config.Cmd;
      return `ENTRYPOINT ${quotedList(config.Entrypoint)}`;
    case 'user':
      config.User = word(instruction.user);
      return `USER ${config.User}`;
    case 'volume': {
      const paths = instruction.paths.map((path) => word(path).trim());
      if (paths.includes('')) throw new InvalidParameter('VOLUME specified can not be an empty string');
      config.Volumes = { ...config.Volumes, ...Object.fromEntries(paths.map((path) => [path, {}])) };
      return `VOLUME [${paths.join(' ')}]`;
    }
    case 'expose': {
      // The order in which they are written makes no other image.
      const ports = instruction.ports.flatMap((port) => words(port)).sort();
      config.ExposedPorts = { ...config.ExposedPorts, ...Object.fromEntries(ports.flatMap(exposed)) };
      return `EXPOSE ${ports.join(' ')}`;
    }
    case 'stopsignal':
      config.StopSignal = checkedSignal(word(instruction.signal));
      return `STOPSIGNAL ${config.StopSignal}`;
    case 'shell':
      config.Shell = [...instruction.shell];
      return `SHELL [${instruction.shell.join(' ')}]`;
    case 'onbuild':
      config.OnBuild = [...(config.OnBuild ?? []), instruction.trigger];
      return `ONBUILD ${instruction.trigger}`;
    case 'healthcheck': {
      const before = config.Healthcheck?.Test ?? [];
      if (before.length > 0 && before[0] !== 'NONE') say(`Note: overriding previous HEALTHCHECK: [${before.join(' ')}]`);
      config.Healthcheck = overHealthcheck(instruction.check, config.Healthcheck);
      return `HEALTHCHECK ${healthcheckText(instruction.check)}`;
    }
    default:
      throw new InvalidParameter(`unknown instruction: ${instruction.kind.toUpperCase()}`);
  }
}

/** What a check leaves open it takes from the one it replaces, as in a container of the image: dockerd builds by making containers. */
function overHealthcheck(check: Healthcheck, before: Healthcheck | undefined): Healthcheck {
  const open = Object.entries(before ?? {}).filter(([name]) => name !== 'Test' && !check[name as keyof Healthcheck]);
  return { ...check, ...Object.fromEntries(open) };
}

function withShell(command: { form: 'shell' | 'exec'; args: readonly string[] }, shell: readonly string[]): string[] {
  if (command.form === 'exec') return [...command.args];
  return command.args.length === 0 ? [] : [...shell, command.args.join(' ')];
}

function withVariable(environment: readonly string[], name: string, value: string): string[] {
  const at = environment.findIndex((variable) => variable.split('=', 1)[0] === name);
  return at < 0 ? [...environment, `${name}=${value}`] : environment.with(at, `${name}=${value}`);
}

/** `80`, `80-82/udp`, `127.0.0.1:8080:80`: the container's side of a port, or of a range. */
function exposed(text: string): [port: string, value: Record<string, never>][] {
  const match = /^(?:.*:)?(\d+)(?:-(\d+))?(?:\/([a-z]+))?$/i.exec(text);
  const first = Number(match?.[1]);
  const last = match?.[2] === undefined ? first : Number(match[2]);
  const protocol = (match?.[3] ?? 'tcp').toLowerCase();
  if (match === null || last > 65_535) throw new InvalidParameter(`Invalid containerPort: ${text.split('/')[0]}`);
  if (!['tcp', 'udp', 'sctp'].includes(protocol)) throw new InvalidParameter(`Invalid proto: ${protocol}`);
  if (last < first) throw new InvalidParameter(`Invalid ranges specified for container and host Ports: ${text}`);
  return Array.from({ length: last - first + 1 }, (_, index) => [`${first + index}/${protocol}`, {}]);
}

const signals = new Set(
  `ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ`.split(
    ' ',
  ),
);

function checkedSignal(text: string): string {
  const isNumber = /^[0-9]+$/.test(text) && Number(text) > 0 && Number(text) <= 64;
  const name = text.toUpperCase().replace(/^SIG/, '');
  if (!isNumber && !signals.has(name) && !/^RTM(IN(\+\d+)?|AX(-\d+)?)$/.test(name)) throw new InvalidParameter(`invalid signal: ${text}`);
  return text;
}
