/** A registry's refusals in dockerd's words and classes. */
import { Cancelled, type FlotillaError, Forbidden, NotFound, ResourceExhausted, System, Unauthorized, Unavailable } from '@flotilla/errors';
import { familiarName, familiarString, type Reference, withDefaultTag } from '@flotilla/oci';
import { proxyGone, type RegistryError } from './distribution.ts';

/** What Go's registry client says of a code that comes without a message. */
const codeMessages: Readonly<Record<string, string>> = {
  DENIED: 'requested access to the resource is denied',
  UNAUTHORIZED: 'authentication required',
  MANIFEST_UNKNOWN: 'manifest unknown',
  NAME_UNKNOWN: 'repository name not known to registry',
  TOOMANYREQUESTS: 'too many requests',
};

/** `manifest unknown: manifest unknown`, as Go's registry client prints an error. */
function goText(error: RegistryError): string {
  return `${error.code.toLowerCase().replaceAll('_', ' ')}: ${error.message || (codeMessages[error.code] ?? 'unknown error')}`;
}

/** The error of a pull of `reference`. */
export function pullError(error: RegistryError, reference: Reference): FlotillaError {
  const options = { cause: error };
  switch (error.code) {
    case 'DENIED':
      return new NotFound(
        `pull access denied for ${familiarName(reference)}, repository does not exist or may require 'docker login': ${goText(error)}`,
        options,
      );
    case 'MANIFEST_UNKNOWN':
      return new NotFound(`manifest for ${familiarString(withDefaultTag(reference))} not found: ${goText(error)}`, options);
    case 'NAME_UNKNOWN':
      return new NotFound(`repository ${familiarName(reference)} not found: ${goText(error)}`, options);
    default:
      return otherError(error);
  }
}

/** The error of a push. */
export function pushError(error: RegistryError): FlotillaError {
  if (error.code === 'DENIED') return new Forbidden(goText(error), { cause: error });
  return otherError(error);
}

function otherError(error: RegistryError): FlotillaError {
  const options = { cause: error };
  switch (error.code) {
    case 'UNAUTHORIZED':
      return new Unauthorized(goText(error), options);
    case 'TOOMANYREQUESTS':
      return new ResourceExhausted(goText(error), options);
    case proxyGone:
      return new Unavailable(error.message, options);
    // What could not be reached is told in the words of the attempt: `Get "http://…": dial tcp …: connect: connection refused`.
    case 'UNAVAILABLE':
    case 'UNKNOWN':
    case '':
      break;
    default:
      return new System(goText(error), options);
  }
  if (error.message === 'canceled') return new Cancelled('context canceled', options);
  if (error.status === 404) return new NotFound(error.message, options);
  return error.status === 0 ? new Unavailable(error.message, options) : new System(error.message, options);
}
