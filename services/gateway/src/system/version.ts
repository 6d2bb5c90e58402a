/** The document of `GET /version`. */
import type { SystemVersion, VersionComponent } from '@flotilla/engine-api';
import { apiVersion, engineVersion, minApiVersion, version } from '@flotilla/service-kit';
import { type Host, programVersion } from './host.ts';

/** Programs that containers run by, shown as components where they are installed. */
const programs = ['conmon', 'crun', 'runc'];

/** When this code was released, for clients that show it. */
const buildTime = '2026-11-24T00:00:00.000000000+00:00';

export class VersionDocument {
  private readonly host: Host;
  private readonly components: Promise<VersionComponent[]>;

  constructor(host: Host) {
    this.host = host;
    this.components = readComponents();
  }

  async read(): Promise<SystemVersion> {
    const { host } = this;
    const common = {
      ApiVersion: apiVersion,
      Arch: host.goArchitecture,
      BuildTime: buildTime,
      GitCommit: `flotilla-${version}`,
      GoVersion: `node${process.versions.node}`,
      KernelVersion: host.kernelVersion,
      MinAPIVersion: minApiVersion,
      Os: 'linux',
    };
    return {
      Platform: { Name: `Flotilla ${version}` },
      Version: engineVersion,
      ...common,
      Components: [{ Name: 'Engine', Version: engineVersion, Details: { ...common, Experimental: 'false' } }, ...(await this.components)],
    };
  }
}

async function readComponents(): Promise<VersionComponent[]> {
  const found = await Promise.all(programs.map(async (program) => ({ program, version: await programVersion(program) })));
  return found.flatMap((each) =>
    each.version === undefined ? [] : [{ Name: each.program, Version: each.version, Details: { GitCommit: '' } }],
  );
}
