/** `flotilla scale` and `flotilla restart`. */
import { InvalidParameter } from '@flotilla/errors/classes';
import { callSupervisor } from '../stack/controlClient.ts';
import { type Roots, stackPaths } from '../stack/paths.ts';
import { isServiceName, serviceNames } from '../stack/services.ts';

/** @param words - `service=replicas`. */
export async function scale(roots: Roots, words: readonly string[]): Promise<void> {
  const counts = parseCounts(words);
  await callSupervisor(stackPaths(roots).control, { command: 'scale', counts });
  for (const [name, count] of Object.entries(counts)) process.stdout.write(`${name}: ${count}\n`);
}

/** @throws InvalidParameter for an unknown service or a number that cannot be. */
export function parseCounts(words: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    words.map((word) => {
      const [name = '', count = ''] = word.split('=');
      requireService(name);
      if (!/^\d{1,2}$/.test(count)) throw new InvalidParameter(`${word}: must be SERVICE=REPLICAS, as in image-service=3`);
      return [name, Number(count)];
    }),
  );
}

function requireService(name: string): void {
  if (!isServiceName(name)) throw new InvalidParameter(`no such service: ${name} (there are ${serviceNames.join(', ')})`);
}

export async function restart(roots: Roots, service: string): Promise<void> {
  if (service !== 'redis' && service !== 'nats') requireService(service);
  await callSupervisor(stackPaths(roots).control, { command: 'restart', service });
  process.stdout.write(`${service} restarted\n`);
}
