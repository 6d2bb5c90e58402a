/** The container that a RUN step is: the stage's configuration with the step's own command. */
import { buildLabel, type ContainerCreateRequest } from '@flotilla/engine-api';
import { InvalidParameter } from '@flotilla/errors';
import type { StageBuilder } from './stageBuilder.ts';

/** @param more - variables that are the step's own. */
export function containerConfig(
  { build, state, args }: StageBuilder,
  command: readonly string[],
  more: readonly string[],
): ContainerCreateRequest {
  if (state.image === undefined) {
    throw new InvalidParameter(`exec: ${JSON.stringify(command[0] ?? '')}: the image has no files yet: COPY something before RUN`);
  }
  const { User, Volumes } = state.config;
  const { hostname } = build.options;
  return {
    Image: state.image.id,
    ...(hostname === undefined ? {} : { Hostname: hostname }),
    Cmd: [...command],
    // One empty word: none, also where the image has one.
    Entrypoint: [''],
    Env: [...state.environment, ...[...args.values(state.environment)].map(([name, value]) => `${name}=${value}`), ...more],
    WorkingDir: state.workingDirectory,
    // What a step writes into a volume's path goes with its container.
    ...(Volumes === undefined ? {} : { Volumes }),
    ...(User === undefined ? {} : { User }),
    Healthcheck: { Test: ['NONE'] },
    Labels: { [buildLabel]: build.name },
  };
}
