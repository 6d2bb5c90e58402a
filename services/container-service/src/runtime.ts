/** An OCI runtime as the domain knows it. */

export interface OciRuntime {
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
  /** directory of its own state: `<root>/<container id>`. */
  readonly root: string;
  /** what the monitor runs in place of the runtime. */
  readonly runCommand: string;
  readonly execCommand: string;
  readonly kind: 'crun' | 'runc' | 'other';
  /** it is started in a mount namespace made for it. */
  readonly ownNamespace: boolean;
}
