/** From a container's configuration to what the OCI runtime is given. */
export {
  type CreateContext,
  type CreateInput,
  type UpdateInput,
  type ValidatedConfig,
  validateCreate,
  validateUpdate,
} from '../validate.ts';
export { apparmorProfile, defaultApparmorProfile } from './apparmor.ts';
export { buildExecProcess, buildRuntimeSpec, type ExecProcessInput, type RuntimeSpecInput, type SpecDefaults } from './build.ts';
export { encodeSpec } from './encode.ts';
export { detectHost, type HostFacts } from './host.ts';
export { type MountPlan, type MountPoint, planMounts, type ResolvedMount } from './mountPlan.ts';
export { cpuSharesFault, updatedResources } from './resources.ts';
export { seccompDigest } from './seccomp.ts';
export { readEngineProfile } from './seccompProfile.ts';
export { bindSubpath } from './subpath.ts';
export { ensureWorkingDirectory } from './workingDirectory.ts';
