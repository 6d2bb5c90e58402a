/** Execs: additional processes in a running container. */
import { boolean, list, type Shape, string, struct, uint } from './decode.ts';

/** The body of ContainerExec. */
export interface ExecConfig {
  User?: string;
  Privileged?: boolean;
  Tty?: boolean;
  /** height, width */
  ConsoleSize?: number[];
  AttachStdin?: boolean;
  AttachStderr?: boolean;
  AttachStdout?: boolean;
  /** deprecated; ignored */
  Detach?: boolean;
  DetachKeys?: string;
  Env?: string[];
  WorkingDir?: string;
  Cmd?: string[];
}

/** The body of ExecStart. */
export interface ExecStartConfig {
  Detach?: boolean;
  Tty?: boolean;
  ConsoleSize?: number[];
}

export interface ExecInspect {
  ID: string;
  Running: boolean;
  ExitCode: number | null;
  ProcessConfig: { tty: boolean; entrypoint: string; arguments: string[]; privileged?: boolean; user?: string };
  OpenStdin: boolean;
  OpenStderr: boolean;
  OpenStdout: boolean;
  CanRemove: boolean;
  ContainerID: string;
  DetachKeys: string;
  Pid: number;
}

export const execConfig: Shape<ExecConfig> = struct<ExecConfig>('container.ExecOptions', {
  User: string,
  Privileged: boolean,
  Tty: boolean,
  ConsoleSize: list(uint),
  AttachStdin: boolean,
  AttachStderr: boolean,
  AttachStdout: boolean,
  Detach: boolean,
  DetachKeys: string,
  Env: list(string),
  WorkingDir: string,
  Cmd: list(string),
});

export const execStartConfig: Shape<ExecStartConfig> = struct<ExecStartConfig>('container.ExecStartOptions', {
  Detach: boolean,
  Tty: boolean,
  ConsoleSize: list(uint),
});
