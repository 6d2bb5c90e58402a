export { dangersOfExec } from './dangers.ts';
export { describeIdentity, type Identity } from './identity.ts';
export { Policy, type Role } from './policy.ts';
export { followPolicy, type PolicySource } from './policyFile.ts';
export {
  containerSubject,
  documentIn,
  type IsOwn,
  isWithin,
  type Limits,
  limitsOfCaller,
  notWithin,
  ownedBy,
  type SharingDocument,
  type Subject,
  type SubjectsOf,
  sharedBy,
  textOf,
  volumeSubject,
} from './subjects.ts';
