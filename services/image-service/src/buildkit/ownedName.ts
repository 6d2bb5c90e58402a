/** Names that clients give their builds and sessions: where callers are known, each has its own, and none follows, steers or asks what is another's. */

/** @param owner - undefined where callers are not told apart. */
export function ownedName(owner: string | undefined, name: string): string {
  return owner === undefined ? name : `${owner}\0${name}`;
}

/** The name as its client gave it. */
export function givenName(name: string): string {
  return name.slice(name.lastIndexOf('\0') + 1);
}
