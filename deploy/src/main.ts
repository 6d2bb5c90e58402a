/** The operator's command. Each subcommand's code is loaded only when it is asked for, so that `flotilla ps` is quick. */
import { errorMessage } from '@flotilla/errors/classes';
import { Command, Option } from 'commander';
import { directives, optionName, type RawSettings, readFlag } from './options/directives.ts';
import { defaultDataRoot, defaultExecRoot } from './options/settings.ts';

type Options = Readonly<Record<string, unknown>>;

const program = new Command('flotilla')
  .description('A Docker-Engine-compatible container engine made of services.')
  .showHelpAfterError('(flotilla --help shows what there is)')
  .helpCommand(true)
  .enablePositionalOptions();

/** Which stack is meant; every command takes these. */
function stackCommand(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option('--data-root <path>', `where records, images and volumes are kept (default: ${defaultDataRoot})`)
    .option('--exec-root <path>', `where sockets and what runs are kept (default: ${defaultExecRoot})`);
}

function roots(options: Options): { dataRoot: string; execRoot: string } {
  return { dataRoot: String(options.dataRoot ?? defaultDataRoot), execRoot: String(options.execRoot ?? defaultExecRoot) };
}

/** The flags of `up` that were given, in daemon.json's shape. */
function flagsOf(options: Options): RawSettings {
  const flags = new Map<string, unknown>();
  for (const directive of directives) {
    const words = options[optionName(directive)];
    if (Array.isArray(words)) flags.set(directive.key, readFlag(directive, words as (string | true)[]));
  }
  for (const [option, key] of [
    ['dataRoot', 'data-root'],
    ['execRoot', 'exec-root'],
  ] as const) {
    if (options[option] !== undefined) flags.set(key, options[option]);
  }
  return flags;
}

const up = stackCommand('up', 'start the stack and wait until every service is healthy')
  .option('--foreground', 'stay, and stop the stack on SIGTERM or ctrl-c')
  .option('--config-file <path>', "daemon.json with dockerd's keys (default: /etc/flotilla/daemon.json where it exists)");
for (const directive of directives) {
  const collect = (word: string | true, before: (string | true)[] | undefined): (string | true)[] => [...(before ?? []), word];
  // A boolean flag without a value gives no word to the parser: `preset` is what it stands for.
  up.addOption(new Option(directive.flag, directive.help).argParser(collect).preset('true'));
}
up.action(async (options: Options) => {
  const { up: run } = await import('./commands/up.ts');
  await run({ flags: flagsOf(options), configFile: options.configFile as string | undefined, foreground: options.foreground === true });
});

stackCommand('down', 'stop every service; containers go on running').action(async (options: Options) => {
  const { down } = await import('./commands/down.ts');
  await down(roots(options));
});

stackCommand('ps', 'list the processes of the stack and their health')
  .option('--json', 'print a JSON array')
  .action(async (options: Options) => {
    const { ps } = await import('./commands/ps.ts');
    await ps(roots(options), options.json === true);
  });

stackCommand('scale', 'run more or fewer replicas: flotilla scale image-service=3')
  .argument('<service=replicas...>')
  .action(async (words: string[], options: Options) => {
    const { scale } = await import('./commands/change.ts');
    await scale(roots(options), words);
  });

stackCommand('restart', 'stop and start the replicas of a service, one after another')
  .argument('<service>')
  .action(async (service: string, options: Options) => {
    const { restart } = await import('./commands/change.ts');
    await restart(roots(options), service);
  });

stackCommand('logs', 'show what the processes of the stack have written')
  .argument('[service]', 'one service, redis, nats or supervisor; default: all')
  .option('-f, --follow', 'go on showing what is written')
  .option('-n, --tail <lines>', 'lines to show from the end, or all', '100')
  .action(async (service: string | undefined, options: Options) => {
    const { logs } = await import('./commands/logs.ts');
    await logs(roots(options), { service, follow: options.follow === true, tail: String(options.tail) });
  });

stackCommand('doctor', 'say what of the kernel, packages, users and cgroups is missing, and how to mend it')
  .option('--json', 'print a JSON array')
  .action(async (options: Options) => {
    const { doctor } = await import('./commands/doctor.ts');
    await doctor(roots(options), options.json === true);
  });

stackCommand('version', 'show the versions of this checkout and of the running stack').action(async (options: Options) => {
  const { showVersion } = await import('./commands/version.ts');
  await showVersion(roots(options));
});

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`flotilla: ${errorMessage(error)}\n`);
  process.exitCode = 1;
}
