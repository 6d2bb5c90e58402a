/** The images that a role is held to: others do not exist for it, and it can give no other names. */
import { familiarName, familiarString, type Reference } from '@flotilla/oci';
import { isWithin, type Limits, limitsOfCaller, notWithin, type PolicySource } from '@flotilla/service-kit/rights';
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
    if (isWithin(limits, '', labels)) return true;
    // A digest alone shows the image to those who have all tags of its repository.
    return names().some((name) => isWithin(limits, familiarString(name), labels) || limits.prefixes.includes(`${familiarName(name)}:`));
  }

  /** Whether the caller may know, give and take away this name of an image. */
  allows(name: Reference, image: Image): boolean {
    const limits = limitsOfCaller(this.policy, 'images');
    return limits === undefined || isNameWithin(limits, name, image);
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
    if (!isNameWithin(limits, name, image)) throw notWithin(limits, 'an image');
  }
}

/** A name with a digest has no tag: who has a tag of its repository has it too, since pulls and pushes of that tag give it. */
function isNameWithin(limits: Limits, name: Reference, image: Image | undefined): boolean {
  if (isWithin(limits, familiarString(name), image?.config.config.Labels)) return true;
  return name.digest !== undefined && limits.prefixes.some((prefix) => prefix.startsWith(`${familiarName(name)}:`));
}
