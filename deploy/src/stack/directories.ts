/** Makes the directories of a stack, each with its owner and mode. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { InvalidParameter } from '@flotilla/errors/classes';
import { type Account, root } from './accounts.ts';
import type { StackPaths } from './paths.ts';
import { services } from './services.ts';

/** Who the services run as on this host. */
export interface Accounts {
  readonly gateway: Account;
  readonly registry: Account;
  readonly redis: Account;
  readonly nats: Account;
}

const directoryItself = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

export function accountOf(service: (typeof services)[number], accounts: Accounts): Account {
  switch (service.account) {
    case undefined:
      return root;
    case 'flotilla-gateway':
      return accounts.gateway;
    default:
      return accounts.registry;
  }
}

/**
 * Roots may be passed through by everyone (containers' users and the docker group reach what is below), and each directory below them belongs to who uses it.
 * `sockets/<service>` is setgid for the gateway's group: that, and root, may dial.
 */
export function makeDirectories(paths: StackPaths, accounts: Accounts): void {
  for (const path of [paths.dataRoot, paths.execRoot]) mkdirSync(path, { recursive: true, mode: 0o711 });
  own(paths.supervisor, 0o700, 0, 0);
  own(paths.secrets, 0o700, 0, 0);
  own(paths.logs, 0o750, 0, 0);
  own(paths.volumes, 0o711, 0, 0);
  own(paths.netns, 0o755, 0, 0);
  own(paths.redisData, 0o700, accounts.redis.uid, accounts.redis.gid);
  own(paths.redisRun, 0o750, accounts.redis.uid, accounts.redis.gid);
  own(paths.natsRun, 0o700, accounts.nats.uid, accounts.nats.gid);
  own(paths.natsData, 0o700, accounts.nats.uid, accounts.nats.gid);
  own(paths.tls, 0o500, accounts.gateway.uid, accounts.gateway.gid);
  own(`${paths.execRoot}/sockets`, 0o711, 0, 0);
  for (const service of services) {
    const account = accountOf(service, accounts);
    own(`${paths.dataRoot}/${service.name}`, 0o711, account.uid, account.gid);
    own(`${paths.execRoot}/${service.name}`, 0o711, account.uid, account.gid);
    own(`${paths.execRoot}/sockets/${service.name}`, 0o2750, account.uid, accounts.gateway.gid);
  }
}

/**
 * Makes or mends a directory. Where the owner was another (a service that ran as root before its user existed), all below it changes hands. A link is followed
 * where it is root's, and at no other place: the owner of the directory above may be a service's user.
 *
 * @throws InvalidParameter for the link of another user.
 */
export function own(path: string, mode: number, uid: number, gid: number): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  if (found.isSymbolicLink() && found.uid !== 0) throw new InvalidParameter(`${path} is a symbolic link of another user's`);
  const fd = openSync(found.isSymbolicLink() ? realpathSync(path) : path, directoryItself);
  try {
    const before = fstatSync(fd);
    if (before.uid !== uid || before.gid !== gid) chownTree(fd, uid, gid);
    // After chown, which clears the setgid bit.
    fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
}

/** Goes by descriptors: who owned the tree so far may exchange a directory for a link meanwhile. */
function chownTree(directory: number, uid: number, gid: number): void {
  for (const name of readdirSync(`/proc/self/fd/${directory}`)) {
    const path = `/proc/self/fd/${directory}/${name}`;
    lchownSync(path, uid, gid);
    if (!lstatSync(path).isDirectory()) continue;
    const below = openSync(path, directoryItself);
    try {
      chownTree(below, uid, gid);
    } finally {
      closeSync(below);
    }
  }
  fchownSync(directory, uid, gid);
}

/** Whether every directory above and at `path` lets this account pass. */
export function canReach(path: string, account: Account): boolean {
  if (account.uid === 0) return true;
  const parts = path.split('/').filter((part) => part !== '');
  for (let count = 0; count <= parts.length; count++) {
    const { mode, uid, gid } = statSync(`/${parts.slice(0, count).join('/')}`);
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
  }
  return true;
}
