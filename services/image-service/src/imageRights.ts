/** The images that a role is held to: others do not exist for it, and it can give no other names. */
import { familiarString, type Reference } from '@flotilla/oci';
import { isWithin, limitsOfCaller, notWithin, type PolicySource } from '@flotilla/service-kit/rights';
import type { Image } from './image.ts';

export class ImageRights {
  private readonly policy: PolicySource | undefined;

  constructor(policy: PolicySource | undefined) {
    this.policy = policy;
  }

  /** @param names - all that the image has. */
  sees(image: Image, names: () => readonly Reference[]): boolean {
    const limits = limitsOfCaller(this.policy, 'images');
    if (limits === undefined) return true;
    const labels = image.config.config.Labels;
    return isWithin(limits, '', labels) || names().some((name) => isWithin(limits, familiarString(name), labels));
  }

  /**
   * For giving a name and for taking it away.
   *
   * @param image - undefined while nobody knows what the name will stand for: then it is refused only when no label could allow it.
   * @throws Forbidden
   */
  requireName(name: Reference, image: Image | undefined): void {
    const limits = limitsOfCaller(this.policy, 'images');
    if (limits === undefined || (image === undefined && limits.labels.length > 0)) return;
    if (!isWithin(limits, familiarString(name), image?.config.config.Labels)) throw notWithin(limits, 'an image');
  }
}
