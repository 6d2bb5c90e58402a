/**
 * Where container-service keeps its files.
 *
 *     <data-root>/container-service/containers/<id>/<id>.log      the log as conmon writes it, and its rotated segments
 *     <data-root>/containers                                      a link to the containers directory above
 *     <data-root>/container-service/boot                          which boot of the machine it last ran in
 *     <exec-root>/container-service/                              lost at reboot, as the processes are
 *       runs/<id>/          the OCI bundle of a run: config.json, pid, monitor.pid, attach, ctl, winsz; shm/ and subpaths/ are mounts
 *       exits/<id>          the exit code, written by conmon when a container's log is complete
 *       views/<process>/    a stopped container with its mounts, mounted while files are copied in or out
 *       execs/<exec id>/    the same for an exec: maker, process.json, pid, attach, ctl, exit/<container id>
 *       carriers/<exec id>  which gateway carries its stream to its client
 *       runtimes/<name>/    the OCI runtimes' own state; runtimes/<name>.run, .exec: the commands conmon is given
 *       drafts/<id>         who makes a container that has no record yet, and the volumes and snapshots it holds
 *       readers/<id>        who reads which log through a ticket
 *       seccomp/<digest>    compiled seccomp filters
 */
import { join } from 'node:path';

export class Paths {
  readonly data: string;
  readonly exec: string;

  constructor(dataRoot: string, execRoot: string) {
    this.data = join(dataRoot, 'container-service');
    this.exec = join(execRoot, 'container-service');
  }

  /** Which boot of the machine this service last ran in. */
  get bootMark(): string {
    return join(this.data, 'boot');
  }
  get containers(): string {
    return join(this.data, 'containers');
  }
  containerDirectory(id: string): string {
    return join(this.data, 'containers', id);
  }
  log(id: string): string {
    return join(this.data, 'containers', id, `${id}.log`);
  }
  get runs(): string {
    return join(this.exec, 'runs');
  }
  bundle(id: string): string {
    return join(this.exec, 'runs', id);
  }
  shm(id: string): string {
    return join(this.exec, 'runs', id, 'shm');
  }
  subpath(id: string, index: number): string {
    return join(this.exec, 'runs', id, 'subpaths', `${index}`);
  }
  get exits(): string {
    return join(this.exec, 'exits');
  }
  exit(id: string): string {
    return join(this.exec, 'exits', id);
  }
  /** of containers that do not run, while files are copied in or out */
  get views(): string {
    return join(this.exec, 'views');
  }
  get execs(): string {
    return join(this.exec, 'execs');
  }
  execDirectory(execId: string): string {
    return join(this.exec, 'execs', execId);
  }
  /** of attached execs */
  get carriers(): string {
    return join(this.exec, 'carriers');
  }
  get drafts(): string {
    return join(this.exec, 'drafts');
  }
  get readers(): string {
    return join(this.exec, 'readers');
  }

  get runtimes(): string {
    return join(this.exec, 'runtimes');
  }
  runtimeRoot(runtime: string): string {
    return join(this.exec, 'runtimes', runtime);
  }
  get seccomp(): string {
    return join(this.exec, 'seccomp');
  }
}
