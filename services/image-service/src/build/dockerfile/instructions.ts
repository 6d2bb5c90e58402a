/** The Dockerfile language as data: what was written, variables not yet expanded. @see docs.docker.com Dockerfile reference */
import type { Healthcheck } from '@flotilla/oci';

/** Lines of the Dockerfile, from 1. */
export interface Location {
  readonly startLine: number;
  readonly endLine: number;
}

interface Written {
  readonly location: Location;
  /** The line as the client is shown it, continuation lines joined. */
  readonly original: string;
  /** The lines of comment right above it, without their marks; none for triggers and what the builder adds. */
  readonly comments?: readonly string[];
}

/** A file that the Dockerfile itself holds. */
export interface HereDoc {
  readonly name: string;
  /** Ends with a newline, unless it is empty. */
  readonly content: string;
  /** Whether variables in it are replaced: not when its name is quoted. */
  readonly expand: boolean;
}

/** One of the shell's words, or a list for exec. */
export interface Command {
  readonly form: 'shell' | 'exec';
  /** In shell form one text, or none. */
  readonly args: readonly string[];
}

export interface Pair {
  readonly key: string;
  readonly value: string;
}

/** An option of a mount: `target=/x`, `ro`. */
export interface RunMount {
  readonly options: readonly { readonly key: string; readonly value: string | undefined }[];
  /** A stage or an image, variables not expanded. */
  readonly from?: string;
  /** As written, for messages. */
  readonly text: string;
}

export interface From extends Written {
  readonly kind: 'from';
  readonly image: string;
  readonly platform?: string;
}
export interface Arg extends Written {
  readonly kind: 'arg';
  readonly args: readonly { readonly name: string; readonly value?: string }[];
}
export interface Env extends Written {
  readonly kind: 'env';
  readonly pairs: readonly Pair[];
}
export interface Label extends Written {
  readonly kind: 'label';
  readonly pairs: readonly Pair[];
}
interface CopyLike extends Written {
  readonly sources: readonly string[];
  readonly inline: readonly HereDoc[];
  readonly destination: string;
  readonly chown?: string;
  readonly chmod?: string;
  readonly link: boolean;
  readonly parents: boolean;
  readonly excludes: readonly string[];
}
export interface Copy extends CopyLike {
  readonly kind: 'copy';
  readonly from?: string;
}
export interface Add extends CopyLike {
  readonly kind: 'add';
  readonly checksum?: string;
  readonly keepGitDir: boolean;
  /** Undefined: archives of the context are unpacked, downloaded files are not. */
  readonly unpack?: boolean;
}
export interface Run extends Written {
  readonly kind: 'run';
  readonly command: Command;
  readonly hereDocs: readonly HereDoc[];
  readonly mounts: readonly RunMount[];
  readonly network?: 'default' | 'none' | 'host';
  readonly security?: 'sandbox' | 'insecure';
}
export interface Cmd extends Written {
  readonly kind: 'cmd';
  readonly command: Command;
}
export interface Entrypoint extends Written {
  readonly kind: 'entrypoint';
  readonly command: Command;
}
export interface Workdir extends Written {
  readonly kind: 'workdir';
  readonly path: string;
}
export interface User extends Written {
  readonly kind: 'user';
  readonly user: string;
}
export interface Volume extends Written {
  readonly kind: 'volume';
  readonly paths: readonly string[];
}
export interface Expose extends Written {
  readonly kind: 'expose';
  readonly ports: readonly string[];
}
export interface StopSignal extends Written {
  readonly kind: 'stopsignal';
  readonly signal: string;
}
export interface HealthcheckInstruction extends Written {
  readonly kind: 'healthcheck';
  readonly check: Healthcheck;
}
export interface Shell extends Written {
  readonly kind: 'shell';
  readonly shell: readonly string[];
}
export interface Onbuild extends Written {
  readonly kind: 'onbuild';
  readonly trigger: string;
}
export interface Maintainer extends Written {
  readonly kind: 'maintainer';
  readonly name: string;
}

export type Instruction =
  | Arg
  | Env
  | Label
  | Copy
  | Add
  | Run
  | Cmd
  | Entrypoint
  | Workdir
  | User
  | Volume
  | Expose
  | StopSignal
  | HealthcheckInstruction
  | Shell
  | Onbuild
  | Maintainer;

export interface Stage {
  readonly index: number;
  /** In lower case. */
  readonly name?: string;
  readonly from: From;
  readonly instructions: readonly Instruction[];
}

/** What is allowed, but not for ever. */
export interface ReadWarning {
  /** In the classic builder's words. */
  readonly text: string;
  readonly line: number;
}

export interface Dockerfile {
  readonly directives: { readonly escapeToken: string; readonly syntax?: string; readonly check?: string };
  /** ARG before the first FROM. */
  readonly metaArgs: readonly Arg[];
  readonly stages: readonly Stage[];
  readonly warnings: readonly ReadWarning[];
}
