/** Who a process runs as: `user[:group]` by the container's own /etc/passwd and /etc/group, with the rules every runtime shares. */
import { InvalidParameter } from '@flotilla/errors';
import { readFileInRoot } from './rootfs.ts';

export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
  /** the primary group first, then those the user is a member of, then those asked for */
  readonly groups: readonly number[];
  readonly home: string;
}

const largestId = 2 ** 31 - 1;

interface PasswdEntry {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}
interface GroupEntry {
  readonly name: string;
  readonly gid: number;
  readonly members: readonly string[];
}

/**
 * @param user - Config.User or the exec's; empty is root.
 * @param groupAdd - HostConfig.GroupAdd: names or numbers.
 * @throws InvalidParameter in dockerd's words for a name that is not there.
 */
export function lookUpUser(rootfs: string, user: string, groupAdd: readonly string[] = []): ProcessUser {
  const passwd = parsePasswd(readFileInRoot(rootfs, '/etc/passwd') ?? '');
  const group = parseGroup(readFileInRoot(rootfs, '/etc/group') ?? '');
  return resolveUser(passwd, group, user, groupAdd);
}

function resolveUser(passwd: readonly PasswdEntry[], group: readonly GroupEntry[], user: string, groupAdd: readonly string[]): ProcessUser {
  const [userName = '', groupName = ''] = user.split(':', 2);
  const number = parseId(userName);
  const entry = passwd.find((each) => (userName === '' ? each.uid === 0 : each.uid === number || each.name === userName));
  if (entry === undefined && userName !== '' && number === undefined) {
    throw new InvalidParameter(`unable to find user ${userName}: no matching entries in passwd file`);
  }
  const uid = checkedId(entry?.uid ?? number ?? 0);
  let gid = entry?.gid ?? 0;
  const memberOf: number[] = [];
  if (groupName !== '') {
    const groupNumber = parseId(groupName);
    const found = group.find((each) => each.gid === groupNumber || each.name === groupName);
    if (found === undefined && groupNumber === undefined) {
      throw new InvalidParameter(`unable to find group ${groupName}: no matching entries in group file`);
    }
    gid = found?.gid ?? groupNumber ?? 0;
  } else if (entry !== undefined) {
    memberOf.push(...group.filter((each) => each.members.includes(entry.name)).map((each) => each.gid));
  }
  const added = groupAdd.map((name) => {
    const found = group.find((each) => each.name === name)?.gid ?? parseId(name);
    if (found === undefined) throw new InvalidParameter(`Unable to find group ${name}`);
    return checkedId(found);
  });
  return { uid, gid: checkedId(gid), groups: [...new Set([gid, ...memberOf, ...added])], home: entry?.home || '/' };
}

function parseId(text: string): number | undefined {
  return /^-?\d+$/.test(text) ? Number(text) : undefined;
}

function checkedId(id: number): number {
  if (id < 0 || id > largestId) throw new InvalidParameter('uids and gids must be in range 0-2147483647');
  return id;
}

function parsePasswd(text: string): PasswdEntry[] {
  return rows(text).map(([name = '', , uid = '', gid = '', , home = '']) => ({ name, uid: Number(uid) || 0, gid: Number(gid) || 0, home }));
}

function parseGroup(text: string): GroupEntry[] {
  return rows(text).map(([name = '', , gid = '', members = '']) => ({
    name,
    gid: Number(gid) || 0,
    members: members.split(',').filter((member) => member !== ''),
  }));
}

function rows(text: string): string[][] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.split(':'));
}
