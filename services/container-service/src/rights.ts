/** What a call works on, for rights: the container that it names, that of its exec, and those whose namespaces, volumes and links a new one shares. */
import { buildLabel, type HostConfig } from '@flotilla/engine-api';
import { errorKind } from '@flotilla/errors';
import {
  containerSubject,
  dangersOfExec,
  documentIn,
  type SharingDocument,
  type Subject,
  type SubjectsOf,
  sharedBy,
  textOf,
} from '@flotilla/service-kit/rights';
import { type ContainerRecord, ownLabelsOf, sharedContainer } from './container.ts';
import { findContainer } from './lookup.ts';
import type { ContainerStore } from './store.ts';

export function containerSubjects(store: ContainerStore): SubjectsOf {
  const find = (reference: string): ContainerRecord | undefined => {
    if (reference === '') return undefined;
    try {
      return findContainer(store, reference);
    } catch (error) {
      // The call itself tells what is wrong with the name.
      if (errorKind(error) === 'Unknown') throw error;
      return undefined;
    }
  };
  /** The namespace that it is in, through whatever containers. */
  const modeOf = (container: ContainerRecord, kind: 'NetworkMode' | 'PidMode' | 'IpcMode'): string => {
    const seen = new Set<string>();
    for (let at = container; ; ) {
      const mode = at.hostConfig[kind] ?? '';
      const other = find(sharedContainer(mode) ?? '');
      if (other === undefined || seen.has(other.id)) return mode;
      seen.add(other.id);
      at = other;
    }
  };
  /** With what it has of the host by others: the namespaces that it shares, and binds by `--volumes-from`. */
  const hostConfigOf = (container: ContainerRecord): HostConfig => {
    const { hostConfig, mounts, config } = container;
    const binds = isOfBuild(config) ? [] : mounts.flatMap(({ type, source }) => (type === 'bind' && source ? [source] : []));
    return {
      ...hostConfig,
      Binds: [...(hostConfig.Binds ?? []), ...binds],
      NetworkMode: modeOf(container, 'NetworkMode'),
      PidMode: modeOf(container, 'PidMode'),
      IpcMode: modeOf(container, 'IpcMode'),
    };
  };
  const subjectOf = (reference: string): Subject[] => {
    const container = find(reference);
    if (container === undefined) return [];
    const { name, config } = container;
    const subject = containerSubject(name, { ...config, HostConfig: hostConfigOf(container) }, reference);
    return [{ ...subject, labels: ownLabelsOf(container), isNobodys: isOfBuild(config) }];
  };
  /** Whose network is joined may have come after the create, where all the others are looked up: then the mode still has a name, here or in one on the way. */
  const joinedAtStart = (container: ContainerRecord | undefined, seen = new Set<string>()): Subject[] => {
    const reference = sharedContainer(container?.hostConfig.NetworkMode) ?? '';
    const other = find(reference);
    if (other === undefined || seen.has(other.id)) return [];
    if (other.id === reference) return joinedAtStart(other, seen.add(other.id));
    return subjectOf(reference).map((subject) => ({ ...subject, isJoined: true }));
  };
  /** The container of an exec, with what the exec itself was given: who starts it need not be who made it. */
  const execSubject = (id: string): Subject[] => {
    const exec = store.execs.get(id);
    if (exec === undefined) return [];
    const own = dangersOfExec({ ...exec.config });
    return subjectOf(exec.containerId).map((subject) => ({ ...subject, dangers: new Set([...own, ...(subject.dangers ?? [])]) }));
  };
  return async (path, request) => {
    await store.fresh();
    if (path === '/flotilla.container.v1.Containers/Create') {
      const document = documentIn(request, 'configJson') as CreateDocument;
      const made: Subject = {
        kind: 'container',
        name: textOf(request, 'name'),
        labels: document.Labels,
        isNew: true,
        isNobodys: isOfBuild(document),
        missing: '',
      };
      // A link gives a name and an address, and nothing of what the other has.
      const { joined, linked } = sharedBy(document);
      return [made, ...joined.flatMap(subjectOf), ...linked.flatMap(subjectOf).map(({ dangers: _dangers, ...subject }) => subject)];
    }
    const exec = textOf(request, 'exec');
    if (exec !== '') return execSubject(exec);
    const container = textOf(request, 'container');
    return [...subjectOf(container), ...(starts.has(path) ? joinedAtStart(find(container)) : [])];
  };
}

const starts: ReadonlySet<string> = new Set(['Start', 'Restart'].map((method) => `/flotilla.container.v1.Containers/${method}`));

/** Steps of a build are in nobody's name: who asked for the build is checked where it is made. What they have and share is checked here. */
function isOfBuild({ Labels }: Pick<CreateDocument, 'Labels'>): boolean {
  return Labels?.[buildLabel] !== undefined;
}

interface CreateDocument extends SharingDocument {
  readonly Labels?: Record<string, string>;
}
