export { CgroupTree, cgroupHierarchies, describeProcess } from './cgroupTree.ts';
export { type CommandOptions, type CommandResult, mustRun, mustSucceed, runCommand } from './command.ts';
export { addDockerPlugins, linkDockerPlugins, oldDockerClient } from './dockerPlugins.ts';
export { freePort } from './freePort.ts';
export { blobPath, dockerArchive, ociArchive, type TaggedImage, writeOciLayout } from './imageArchives.ts';
export {
  architecture,
  assembleImage,
  buildImage,
  buildIndex,
  busyboxImage,
  busyboxLayer,
  type Descriptor,
  type ImageOptions,
  type ImageRunConfig,
  mediaTypes,
  type TestImage,
  type TestIndex,
} from './images.ts';
export { connectOutside, createLab, type Lab, type LabHost } from './lab.ts';
export { buildLayer, buildTar, type Compression, type Layer, type LayerEntry, opaque, randomBytesOf, sha256, whiteout } from './layers.ts';
export { assertNoLeaks, compareSnapshots, type LeakOptions, type SystemSnapshot, snapshotSystem } from './leaks.ts';
export type { SpawnOptions } from './namespaceHolder.ts';
export { type NatsUser, startNats, type TestNats } from './nats.ts';
export { startNatsCluster, type TestNatsCluster } from './natsCluster.ts';
export { cutPower } from './powerCut.ts';
export { Terminal } from './pty.ts';
export { type PushTarget, pushImage } from './push.ts';
export { startRedis, type TestRedis } from './redis.ts';
export { type RedisFleet, startCluster, startSentinels } from './redisFleet.ts';
export { type AccessLogEntry, startRegistry, type TestRegistry } from './registry.ts';
export { type Place, ServerProcess } from './server.ts';
export { escapeName, everyKind, Random, spoiledJson, spoiledTar, strayNames } from './spoiledTar.ts';
export type { StackProcess } from './stackReport.ts';
export { type Misbehaviour, type StaticRegistry, startStaticRegistry } from './staticRegistry.ts';
export { createTestHost, disposeTestHosts, type StackOptions, TestHost } from './testHost.ts';
export { type WaitOptions, waitFor } from './waitFor.ts';
