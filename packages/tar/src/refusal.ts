/** Why an entry of an archive cannot be made. */

/** In the words that Go, and so dockerd, has for them. */
const words: Readonly<Record<string, string>> = {
  E2BIG: 'argument list too long',
  EEXIST: 'file exists',
  EINVAL: 'invalid argument',
  EISDIR: 'is a directory',
  ELOOP: 'too many levels of symbolic links',
  EMLINK: 'too many links',
  ENAMETOOLONG: 'file name too long',
  ENOENT: 'no such file or directory',
  ENOTDIR: 'not a directory',
  ENXIO: 'no such device or address',
  EPERM: 'operation not permitted',
  ERANGE: 'numerical result out of range',
  EXDEV: 'invalid cross-device link',
};

/** What the kernel says against what an entry asks for; undefined where the fault is this machine's, as a full disk is. */
export function entryRefusal(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? words[String(error.code)] : undefined;
}
