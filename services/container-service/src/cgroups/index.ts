/** Control groups: limits, freezer, counters. */
export { Cgroups, Group } from './group.ts';
export { type CgroupSupport, type CgroupVersion, Hierarchy } from './hierarchy.ts';
export type { CgroupSample } from './sample.ts';
