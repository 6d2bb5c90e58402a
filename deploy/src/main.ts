/** The operator's command. Each subcommand's code is loaded only when it is asked for, so that `flotilla ps` is quick. */
import { errorMessage, InvalidParameter } from '@flotilla/errors/classes';
import { Command, Option } from 'commander';
import type { RegistryAddress } from './commands/registryClient.ts';
import { directives, optionName, type RawSettings, readFlag } from './options/directives.ts';
import { fixedDirectives } from './options/fixedDirectives.ts';
import { defaultDataRoot, defaultExecRoot } from './options/settings.ts';

type Options = Readonly<Record<string, unknown>>;

const program = new Command('flotilla')
  .description('A Docker-Engine-compatible container engine made of services.')
  .showHelpAfterError('(flotilla --help shows what there is)')
  .helpCommand(true)
  .enablePositionalOptions();

/** Which stack is meant; every command takes these. */
function stackCommand(name: string, description: string, parent: Command = program): Command {
  return parent
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
  for (const directive of [...directives, ...fixedDirectives]) {
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

/** A command that takes dockerd's flags and file. */
function engineCommand(name: string, description: string): Command {
  const command = stackCommand(name, description).option(
    '--config-file <path>',
    "daemon.json with dockerd's keys (default: /etc/flotilla/daemon.json where it exists)",
  );
  for (const directive of [...directives, ...fixedDirectives]) {
    const collect = (word: string | true, before: (string | true)[] | undefined): (string | true)[] => [...(before ?? []), word];
    // A boolean flag without a value gives no word to the parser: `preset` is what it stands for.
    const option = new Option(directive.flag, directive.help).argParser(collect).preset('true');
    // Commander would read --no-new-privileges as the contrary of --new-privileges.
    option.negate = false;
    command.addOption(fixedDirectives.some(({ key }) => key === directive.key) ? option.hideHelp() : option);
  }
  return command;
}

engineCommand('up', 'start the stack and wait until every service is healthy')
  .option('--foreground', 'stay, and stop the stack on SIGTERM or ctrl-c')
  .option('--validate', 'check flags and configuration file, and do nothing')
  .action(async (options: Options) => {
    const { up } = await import('./commands/up.ts');
    await up({
      flags: flagsOf(options),
      configFile: options.configFile as string | undefined,
      foreground: options.foreground === true,
      validate: options.validate === true,
    });
  });

engineCommand('prepare', 'make what the services need where each is a container of another engine (docker-compose.yml), and wait').action(
  async (options: Options) => {
    const { prepare } = await import('./commands/prepare.ts');
    await prepare({ flags: flagsOf(options), configFile: options.configFile as string | undefined });
  },
);

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

stackCommand('upgrade', 'go on with the code of another checkout, one replica after another; containers and clients notice nothing')
  .requiredOption('--from <directory>', 'a checkout with its packages installed (npm ci); the present one to go back')
  .action(async (options: Options) => {
    const { upgrade } = await import('./commands/upgrade.ts');
    await upgrade(roots(options), String(options.from));
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
  .option('--disk', "verify every blob and layer against its digest instead, and name what is nobody's")
  .option('--repair', "with --disk: remove what is damaged or nobody's, extract damaged layers anew")
  .action(async (options: Options) => {
    const { doctor } = await import('./commands/doctor.ts');
    await doctor(roots(options), { json: options.json === true, disk: options.disk === true, repair: options.repair === true });
  });

stackCommand('version', 'show the versions of this checkout and of the running stack').action(async (options: Options) => {
  const { showVersion } = await import('./commands/version.ts');
  await showVersion(roots(options));
});

const volume = program.command('volume').description('archives of volumes');

function volumeCommand(name: string, description: string): Command {
  return stackCommand(name, description, volume).argument('<volume>');
}

volumeCommand('backup', 'write the content of a volume to standard output, as a tar archive; containers may use it meanwhile').action(
  async (name: string, options: Options) => {
    const { volumeBackup } = await import('./commands/volume.ts');
    await volumeBackup(roots(options), name);
  },
);

volumeCommand('restore', 'fill a volume from a tar archive on standard input; it is made when it does not exist')
  .option('--replace', 'what is in it goes')
  .action(async (name: string, options: Options) => {
    const { volumeRestore } = await import('./commands/volume.ts');
    await volumeRestore(roots(options), name, options.replace === true);
  });

const registry = program.command('registry').description('a registry-proxy for many hosts, and what it holds');
const collected = (word: string, before: string[]): string[] => [...before, word];

registry
  .command('up')
  .description('run a registry-proxy without a stack; again with another address on the same data root: a replica')
  .requiredOption('--listen <host:port>', 'where hosts reach it')
  .requiredOption('--data-root <path>', 'where it keeps its cache and its own repositories')
  .option('--upstreams <file>', 'upstream registries (JSON): mirrors, certificates, credentials; read again when it changes')
  .option('--upstream <name=url>', 'where a registry is that is not at its own name; repeatable', collected, [])
  .option('--registry-mirror <url>', 'a mirror of docker.io; repeatable', collected, [])
  .option('--insecure-registry <host|cidr>', 'registries without TLS or without a valid certificate; repeatable', collected, [])
  .option('--own-prefix <name>', 'first component of repositories that are stored here; repeatable (default: lab)', collected, [])
  .option('--cache-size <bytes>', 'bytes of cached blobs above which the least recently used go (default: 20 GiB)')
  .option('--tag-ttl <seconds>', 'how long a tag counts without asking the upstream (default: 0)')
  .option('--advertise <host:port>', 'where replicas that share the Redis of REDIS_URL reach this one (default: as --listen)')
  .option('--htpasswd <file>', 'names and bcrypt hashes of those who may use it (htpasswd -nB NAME)')
  .option('--tls-cert <file>', "the listener's certificate (PEM)")
  .option('--tls-key <file>', "the listener's key")
  .option('--tls-ca <file>', 'let in who has a client certificate signed by this authority')
  .option('--push-users <names>', 'names, separated by commas, that may push, delete, prefetch and collect (default: all who may enter)')
  .option('--offline', 'ask no upstream for anything; serve what is held')
  .option('--foreground', 'stay, and stop on SIGTERM or ctrl-c')
  .action(async (options: Options) => {
    const { registryUp } = await import('./commands/registry.ts');
    await registryUp({
      listen: String(options.listen),
      dataRoot: String(options.dataRoot),
      upstreams: options.upstream as string[],
      upstreamsFile: options.upstreams as string | undefined,
      mirrors: options.registryMirror as string[],
      insecureRegistries: options.insecureRegistry as string[],
      ownPrefixes: options.ownPrefix as string[],
      cacheBytes: options.cacheSize as string | undefined,
      tagTtlSeconds: options.tagTtl as string | undefined,
      offline: options.offline === true,
      advertise: options.advertise as string | undefined,
      access: {
        htpasswd: options.htpasswd as string | undefined,
        certificate: options.tlsCert as string | undefined,
        key: options.tlsKey as string | undefined,
        clientCa: options.tlsCa as string | undefined,
        pushUsers: options.pushUsers as string | undefined,
      },
      foreground: options.foreground === true,
    });
  });

registry
  .command('down')
  .description('stop the replicas on a data root; pulls under way may end first')
  .requiredOption('--data-root <path>', 'the data root given to `registry up`')
  .option('--listen <host:port>', 'only the replica at this address')
  .action(async (options: Options) => {
    const { registryDown } = await import('./commands/registry.ts');
    await registryDown(String(options.dataRoot), options.listen as string | undefined);
  });

/** A command for a proxy that runs: of the lab by its URL, or of the stack at an exec root. */
function proxyCommand(name: string, description: string): Command {
  return registry
    .command(name)
    .description(description)
    .option('--url <url>', 'the registry-proxy to ask (default: that of the stack at --exec-root)')
    .option('--user <name>', 'who you are to it')
    .option('--password-file <file>', 'your password')
    .option('--tls-ca <file>', 'the authority of its certificate')
    .option('--tls-cert <file>', 'your certificate')
    .option('--tls-key <file>', 'its key')
    .option('--exec-root <path>', `the stack whose registry-proxy to ask (default: ${defaultExecRoot})`);
}

function proxyOf(options: Options): RegistryAddress {
  const text = (name: string): string | undefined => options[name] as string | undefined;
  if (options.url === undefined) {
    // A stack's own is asked at its socket, whose group decides.
    const given = ['user', 'passwordFile', 'tlsCa', 'tlsCert', 'tlsKey'].filter((name) => text(name) !== undefined);
    if (given.length > 0) throw new InvalidParameter('--user, --password-file, --tls-ca, --tls-cert and --tls-key go with --url');
    return { execRoot: String(options.execRoot ?? defaultExecRoot) };
  }
  return {
    url: String(options.url),
    user: text('user'),
    passwordFile: text('passwordFile'),
    ca: text('tlsCa'),
    certificate: text('tlsCert'),
    key: text('tlsKey'),
  };
}

proxyCommand('status', "show its cache, its upstreams' rate limits, and which of them are in quarantine")
  .option('--json', 'print JSON')
  .action(async (options: Options) => {
    const { registryStatus } = await import('./commands/registryClient.ts');
    await registryStatus(proxyOf(options), options.json === true);
  });

proxyCommand('prefetch', 'fetch images into the cache before anybody asks')
  .argument('<image...>')
  .option('--platform <platform>', "os/arch, or all (default: this machine's)", '')
  .option('--pin', 'keep them whatever the bound of the cache says')
  .action(async (images: string[], options: Options) => {
    const { registryPrefetch } = await import('./commands/registryClient.ts');
    await registryPrefetch(proxyOf(options), { images, platform: String(options.platform), pin: options.pin === true });
  });

proxyCommand('pins', 'list the images that are kept whatever the bound of the cache says').action(async (options: Options) => {
  const { registryPins } = await import('./commands/registryClient.ts');
  await registryPins(proxyOf(options));
});

proxyCommand('unpin', 'let pinned images go when the cache is full')
  .argument('<image...>')
  .action(async (images: string[], options: Options) => {
    const { registryUnpin } = await import('./commands/registryClient.ts');
    await registryUnpin(proxyOf(options), images);
  });

proxyCommand('collect', 'remove what no manifest of the own repositories needs').action(async (options: Options) => {
  const { registryCollect } = await import('./commands/registryClient.ts');
  await registryCollect(proxyOf(options));
});

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`flotilla: ${errorMessage(error)}\n`);
  process.exitCode = 1;
}
