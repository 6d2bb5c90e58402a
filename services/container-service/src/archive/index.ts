/** Files of a container from outside: copying in and out, export, changes. */
export { containerChanges } from './changes.ts';
export { type CopyInOptions, checkDestination, copyIn } from './copyIn.ts';
export { exportTree, type OutgoingArchive, openArchive } from './copyOut.ts';
export { type ArchiveRoot, statPath } from './root.ts';
export { openStoppedView, removeAbandonedViews, type StoppedView, type ViewMount } from './stoppedView.ts';
