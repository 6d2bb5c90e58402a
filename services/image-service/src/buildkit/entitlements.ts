/** What a client grants the steps of its build beyond what every step may. */
import { InvalidParameter } from '@flotilla/errors';

export type Entitlement = 'network.host';

/** Known, and never granted here. */
const refused: ReadonlySet<string> = new Set(['security.insecure', 'device']);

/** @throws InvalidParameter in BuildKit's words. */
export function readEntitlements(names: readonly string[]): ReadonlySet<Entitlement> {
  const granted = new Set<Entitlement>();
  for (const name of names) {
    if (name === 'network.host') granted.add(name);
    else if (refused.has(name)) throw new InvalidParameter(`granting entitlement ${name} is not allowed by build daemon configuration`);
    else throw new InvalidParameter(`unknown entitlement ${name}`);
  }
  return granted;
}
