/** Names that images have here. */
import { InvalidParameter } from '@flotilla/errors';
import { familiarName, parseReference, type Reference, repositoryName, withDefaultTag } from '@flotilla/oci';

/** As it is stored: a digest outranks a tag, and a bare name means `latest`. */
export function exactReference(reference: Reference): Reference {
  if (reference.digest !== undefined) return { domain: reference.domain, path: reference.path, digest: reference.digest };
  return withDefaultTag(reference);
}

/** A name that a tag may be put on. @throws InvalidParameter in dockerd's words. */
export function parseRepository(text: string): Reference {
  const reference = parseReference(text);
  if (reference.digest !== undefined) throw new InvalidParameter('refusing to create a tag with a digest reference');
  if (familiarName(reference) === 'sha256') {
    throw new InvalidParameter('refusing to create an ambiguous tag using digest algorithm as name');
  }
  return reference;
}

/** Whether two names are of one repository. */
export function sameRepository(a: Reference, b: Reference): boolean {
  return repositoryName(a) === repositoryName(b);
}
