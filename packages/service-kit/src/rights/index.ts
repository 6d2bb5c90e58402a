export { describeIdentity, type Identity } from './identity.ts';
export { isWithin, Policy, type Role } from './policy.ts';
export { followPolicy, type PolicySource } from './policyFile.ts';
