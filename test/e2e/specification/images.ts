/** Images, builds and registries, as Engine API v1.50 describes its answers, and this engine gives them: which fields are always there, and which may be null. */
import { driverData, healthConfig, ociDescriptor, ociPlatform } from './containers.ts';
import { any, boolean, fields, integer, list, map, oneOf, orNull, type Shape, string, time } from './shape.ts';

export const imageManifestSummary: Shape = fields(
  {
    ID: string,
    Descriptor: ociDescriptor,
    Available: boolean,
    Size: fields({ Total: integer, Content: integer }),
    Kind: oneOf('image', 'attestation', 'unknown'),
    ImageData: orNull(fields({ Platform: ociPlatform, Containers: list(string), Size: fields({ Unpacked: integer }) })),
  },
  { AttestationData: orNull(fields({ For: string })) },
);

export const imageSummary: Shape = fields(
  {
    Id: string,
    ParentId: string,
    RepoTags: list(string),
    RepoDigests: list(string),
    Created: integer,
    Size: integer,
    SharedSize: integer,
    Labels: orNull(map(string)),
    Containers: integer,
  },
  { Manifests: list(imageManifestSummary), Descriptor: ociDescriptor },
);

export const imageConfig: Shape = fields(
  { Env: list(string), Cmd: list(string) },
  {
    User: string,
    ExposedPorts: orNull(map(map(any))),
    Healthcheck: healthConfig,
    ArgsEscaped: orNull(boolean),
    Volumes: map(map(any)),
    WorkingDir: string,
    Entrypoint: list(string),
    OnBuild: orNull(list(string)),
    Labels: map(string),
    StopSignal: orNull(string),
    Shell: orNull(list(string)),
  },
);

export const imageInspect: Shape = fields(
  {
    Id: string,
    RepoTags: list(string),
    RepoDigests: list(string),
    Parent: string,
    Comment: string,
    Created: orNull(time),
    DockerVersion: string,
    Author: string,
    Config: imageConfig,
    Architecture: string,
    Os: string,
    Size: integer,
    GraphDriver: driverData,
    RootFS: fields({ Type: string, Layers: list(string) }),
    Metadata: fields({ LastTagTime: orNull(time) }),
  },
  { Descriptor: ociDescriptor, Manifests: orNull(list(imageManifestSummary)), Variant: orNull(string), OsVersion: orNull(string) },
);

export const imageHistoryResponseItem: Shape = fields({
  Id: string,
  Created: integer,
  CreatedBy: string,
  Tags: list(string),
  Size: integer,
  Comment: string,
});

export const imageDeleteResponseItem: Shape = fields({}, { Untagged: string, Deleted: string });

export const distributionInspect: Shape = fields({ Descriptor: ociDescriptor, Platforms: list(ociPlatform) });

export const idResponse: Shape = fields({ Id: string });

export const buildPrune: Shape = fields({ CachesDeleted: orNull(list(string)), SpaceReclaimed: integer });

export const imagePrune: Shape = fields({ ImagesDeleted: orNull(list(imageDeleteResponseItem)), SpaceReclaimed: integer });
