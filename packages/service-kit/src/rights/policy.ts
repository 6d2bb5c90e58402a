/**
 * The policy file: who may do what. Without one whoever opens the socket may do all, as with dockerd.
 *
 *   { "default": "viewer",
 *     "identities": [{ "user": "alice", "role": "team-a" }, { "certificate": "ci", "role": "operator" }],
 *     "roles": { "team-a": { "operations": ["Container*", "Exec*", "System*"], "objects": { "prefixes": ["a-"] },
 *                            "images": { "labels": ["team=a"] }, "forbid": ["privileged"] } } }
 */
import { Forbidden, InvalidParameter } from '@flotilla/errors';
import { z } from 'zod';
import { type Danger, dangers, dangersOfCall } from './dangers.ts';
import { describeIdentity, type Identity } from './identity.ts';
import { checkOwn, type Subject } from './subjects.ts';

const limits = z.strictObject({
  prefixes: z.array(z.string().min(1)).default([]),
  labels: z.array(z.string().regex(/^[^=]+=/)).default([]),
});

const role = z.strictObject({
  /** Operation ids of the Engine API; `*` at the end takes all that begin so. */
  operations: z.array(z.string().regex(/^[A-Za-z]*\*?$/, 'must be an operation id, or the beginning of one and *')).default(['*']),
  /** Taken out of `operations`. */
  except: z.array(z.string()).default([]),
  /** Containers, networks and volumes outside of it do not exist for the role. */
  objects: limits.optional(),
  /** The same for images: prefixes of the names that the CLI shows, labels of their configuration. */
  images: limits.optional(),
  forbid: z.array(z.enum(dangers)).default([]),
});

const identityRule = z
  .strictObject({
    user: z.string().optional(),
    uid: z.number().int().nonnegative().optional(),
    certificate: z.string().optional(),
    role: z.string(),
  })
  .refine(
    (rule) => [rule.user, rule.uid, rule.certificate].filter((each) => each !== undefined).length === 1,
    'needs one of user, uid and certificate',
  );

const schema = z.strictObject({
  default: z.string().optional(),
  identities: z.array(identityRule).default([]),
  roles: z.record(z.string(), role).default({}),
});

export type Role = Readonly<z.output<typeof role>> & { readonly name: string };

/** Reads and nothing else: no streams into containers, no files out of them. */
const viewed = [
  'ContainerList',
  'ContainerInspect',
  'ContainerTop',
  'ContainerLogs',
  'ContainerChanges',
  'ContainerStats',
  'ContainerWait',
  'ExecInspect',
  'ImageList',
  'ImageInspect',
  'ImageHistory',
  'NetworkList',
  'NetworkInspect',
  'VolumeList',
  'VolumeInspect',
  'PluginList',
  'System*',
  'Metrics',
];

const builtIn: Readonly<Record<string, Role>> = {
  admin: { name: 'admin', operations: ['*'], except: [], forbid: [] },
  operator: { name: 'operator', operations: ['*'], except: [], forbid: [...dangers] },
  viewer: { name: 'viewer', operations: viewed, except: ['SystemAuth'], forbid: [...dangers] },
};

const words: Readonly<Record<Danger, string>> = {
  privileged: 'privileged mode',
  'host-mounts': 'mounts of the host',
  'host-namespaces': "the host's namespaces",
  devices: 'devices of the host',
  capabilities: 'added capabilities',
  unconfined: 'weaker confinement',
};

export class Policy {
  private readonly document: z.output<typeof schema>;
  private readonly roles: ReadonlyMap<string, Role>;

  private constructor(document: z.output<typeof schema>) {
    this.document = document;
    this.roles = new Map([
      ...Object.entries(builtIn),
      ...Object.entries(document.roles).map(([name, own]): [string, Role] => [name, { name, ...own }]),
    ]);
  }

  /** @throws InvalidParameter that says where the mistake is. */
  static parse(text: string): Policy {
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch (error) {
      throw new InvalidParameter(`the policy file is not JSON: ${error instanceof Error ? error.message : String(error)}`);
    }
    const parsed = schema.safeParse(document);
    if (!parsed.success) {
      const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'the document'}: ${issue.message}`);
      throw new InvalidParameter(`the policy file is wrong: ${problems.join('; ')}`);
    }
    const policy = new Policy(parsed.data);
    for (const name of [parsed.data.default, ...parsed.data.identities.map((rule) => rule.role)]) {
      if (name !== undefined && !policy.roles.has(name)) throw new InvalidParameter(`the policy file is wrong: there is no role ${name}`);
    }
    for (const name of Object.keys(parsed.data.roles)) {
      if (name in builtIn) throw new InvalidParameter(`the policy file is wrong: the role ${name} is built in`);
    }
    return policy;
  }

  /** The role of who asks. root on the engine's own socket is admin unless a rule names it: it could write the policy anyway. */
  roleOf(identity: Identity): Role | undefined {
    const rule = this.document.identities.find((each) => {
      if (identity.kind === 'user') return each.user === identity.name || (each.uid !== undefined && each.uid === identity.uid);
      return identity.kind === 'certificate' && each.certificate === identity.name;
    });
    if (rule === undefined && identity.kind === 'user' && identity.uid === 0) return this.roles.get('admin');
    const name = rule?.role ?? this.document.default;
    return name === undefined ? undefined : this.roles.get(name);
  }

  /** @throws Forbidden when the operation is not for this identity. */
  checkOperation(identity: Identity, operation: string): Role {
    const found = this.roleOf(identity);
    if (found === undefined) throw new Forbidden(`access denied: the policy gives ${describeIdentity(identity)} no role`);
    if (!matchesAny(found.operations, operation) || matchesAny(found.except, operation)) {
      throw new Forbidden(`access denied: ${describeIdentity(identity)} (role ${found.name}) may not use ${operation}`);
    }
    return found;
  }

  /**
   * Checks a call between services again where it is carried out. A caller that is not known gets nothing dangerous.
   *
   * @throws Forbidden
   */
  checkCall(identity: Identity | undefined, path: string, request: unknown): void {
    checkDangers(identity, identity === undefined ? undefined : this.roleOf(identity), dangersOfCall(path, request));
  }

  /**
   * Checks what a call works on: that it is within what the caller's role is held to, and that using it gives nothing that is forbidden.
   *
   * @throws NotFound, Forbidden
   */
  checkSubjects(identity: Identity, path: string, subjects: readonly Subject[]): void {
    const found = this.roleOf(identity);
    for (const subject of subjects) {
      checkOwn(found?.objects, subject);
      if (!uses.has(path) && subject.isJoined !== true) continue;
      for (const danger of subject.dangers ?? []) {
        if (found !== undefined && !found.forbid.includes(danger)) continue;
        throw new Forbidden(
          `access denied: ${describeIdentity(identity)}${found === undefined ? '' : ` (role ${found.name})`} may not use the ${subject.kind} ${subject.name}: it has ${words[danger]}`,
        );
      }
    }
  }
}

/** Calls that get into what they work on, or take out of it. */
const uses: ReadonlySet<string> = new Set([
  ...['Create', 'Update', 'Attach', 'Export', 'StatArchive', 'GetArchive', 'PutArchive', 'Commit'].map(
    (method) => `/flotilla.container.v1.Containers/${method}`,
  ),
  '/flotilla.container.v1.Execs/Create',
  '/flotilla.container.v1.Execs/Start',
  '/flotilla.volume.v1.Volumes/Acquire',
  '/flotilla.volume.v1.Volumes/Backup',
  '/flotilla.volume.v1.Volumes/Restore',
]);

function checkDangers(identity: Identity | undefined, found: Role | undefined, asked: ReadonlySet<Danger>): void {
  for (const danger of asked) {
    if (found !== undefined && !found.forbid.includes(danger)) continue;
    const who = identity === undefined ? 'a caller that is not known' : describeIdentity(identity);
    throw new Forbidden(`access denied: ${who}${found === undefined ? '' : ` (role ${found.name})`} may not ask for ${words[danger]}`);
  }
}

function matchesAny(patterns: readonly string[], operation: string): boolean {
  return patterns.some((pattern) => (pattern.endsWith('*') ? operation.startsWith(pattern.slice(0, -1)) : operation === pattern));
}
