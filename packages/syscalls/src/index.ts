export {
  addAddress,
  addNeighbour,
  addRoute,
  deleteAddress,
  deleteNeighbour,
  deleteRoute,
  type InterfaceAddress,
  listAddresses,
  listRoutes,
  type Neighbour,
  type Route,
} from './addresses.ts';
export { arrangeForExec, dropOnExec, keepOnExec, listenUnix, takeConnection, takeDescriptor } from './descriptors.ts';
export {
  atWorkingDirectory,
  exchange,
  lchownAt,
  linkAt,
  lutimesNs,
  makeDevice,
  mkdirAt,
  mkfifo,
  mknod,
  mknodAt,
  openat2,
  openCloseOnExec,
  openPath,
  resolveFlags,
  setUmask,
  splitDevice,
  symlinkAt,
  syncFileSystem,
  tryLockFile,
  unlinkAt,
  unlockFile,
} from './files.ts';
export { deleteFlow, type Flow, type FlowFilter, listFlows } from './flows.ts';
export { hasCode, SyscallError } from './libc.ts';
export {
  changeLink,
  createBridge,
  createDummy,
  createIpvlan,
  createMacvlan,
  createVeth,
  createVlan,
  createVxlan,
  deleteLink,
  deleteLinkInBackground,
  findLink,
  type Link,
  type LinkChange,
  type LinkCounters,
  linkCounters,
  listLinks,
  requireLink,
  setBridgeOptions,
  setBridgePort,
  type VethEnd,
  type VxlanOptions,
} from './links.ts';
export { releaseProgramPages, trimMemory } from './memory.ts';
export { bindMount, mount, mountFlags, umount, umountFlags, umountInBackground } from './mount.ts';
export { namespaceKinds, openOwnNamespace, setns, unshare, withNamespaceFile } from './namespaces.ts';
export { type NetlinkMessage, NetlinkSocket, netlinkPort, netlinkProtocols, parseAttributes, readText } from './netlink.ts';
export { createNetns, inNetns, isNetns, mountPointsBelow, netnsInode, removeNetns, unescapeMountPath } from './netns.ts';
export { spreadDirectories } from './placement.ts';
export {
  type ExitedProcess,
  kill,
  makePipe,
  openPidfd,
  posixSpawn,
  type SpawnOptions,
  setAlarm,
  signalAtParentDeath,
  waitpid,
} from './process.ts';
export {
  addressBytes,
  addressText,
  type BindOptions,
  bindSocket,
  closeDescriptor,
  connectSeqpacket,
  descriptorOf,
  type PeerCredentials,
  peerCredentials,
  readOn,
  shutdown,
  stopReading,
  type Transport,
} from './socket.ts';
export { readSysctl, sysctlPath, writeSysctl } from './sysctl.ts';
export { lgetxattr, llistxattr, lremovexattr, lsetxattr } from './xattr.ts';
