/** Which socket the stack of these `flotilla up` flags serves. */
import { defaultDataRoot, defaultExecRoot } from '../options/settings.ts';

/** The value of a flag: `--name value` or `--name=value`; the last one counts. */
function flagValue(args: readonly string[], ...names: string[]): string | undefined {
  let found: string | undefined;
  args.forEach((arg, index) => {
    for (const name of names) {
      if (arg === name) found = args[index + 1];
      else if (arg.startsWith(`${name}=`)) found = arg.slice(name.length + 1);
    }
  });
  return found;
}

export function socketFrom(args: readonly string[]): { socket: string; dataRoot: string } {
  const host = flagValue(args, '-H', '--host');
  const execRoot = flagValue(args, '--exec-root') ?? defaultExecRoot;
  return {
    socket: host?.startsWith('unix:///') === true ? host.slice('unix://'.length) : `${execRoot}/docker.sock`,
    dataRoot: flagValue(args, '--data-root') ?? defaultDataRoot,
  };
}
