/**
 * Rights over other hosts. What an operation is, is known here; which objects it concerns and what dangers its body holds is known to the other host
 * alone, which sees this gateway and not its caller. So whoever is held back by objects or dangers is refused what could get around that.
 */
import { Forbidden } from '@flotilla/errors';
import { describeIdentity, type Identity, type Role } from '@flotilla/service-kit/rights';

/** Operations whose request, or whose object, may carry a danger. */
const mayBeDangerous: ReadonlySet<string> = new Set([
  'ContainerCreate',
  'ContainerUpdate',
  'ContainerExec',
  'ExecStart',
  'ContainerAttach',
  'ContainerAttachWebsocket',
  'ContainerArchive',
  'PutContainerArchive',
  'ContainerExport',
  'ContainerStart',
  'ContainerRestart',
  'ImageBuild',
  'ImageCommit',
  'VolumeCreate',
  'NetworkCreate',
  'NetworkConnect',
  'Session',
]);

/** @throws Forbidden */
export function checkRelayed(identity: Identity, role: Role, operation: string, host: string): void {
  if (role.objects !== undefined || role.images !== undefined) {
    throw new Forbidden(
      `access denied: ${describeIdentity(identity)} (role ${role.name}) is held to some objects, and is not known to host ${host}`,
    );
  }
  if (role.forbid.length > 0 && mayBeDangerous.has(operation)) {
    throw new Forbidden(`access denied: ${describeIdentity(identity)} (role ${role.name}) may not use ${operation} on host ${host}`);
  }
}
