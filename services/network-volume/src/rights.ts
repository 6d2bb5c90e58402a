/** What a call works on, for rights: the network or volume that it names, or makes. */
import { errorKind } from '@flotilla/errors';
import { documentIn, type Subject, type SubjectsOf, textOf, volumeSubject } from '@flotilla/service-kit/rights';
import { type NetworkRecord, predefinedNames } from './network.ts';
import type { Records } from './records.ts';

interface Named {
  readonly Name?: string;
  readonly Labels?: Record<string, string>;
}

export function networkVolumeSubjects(records: Records, networks: { find(term: string): NetworkRecord }): SubjectsOf {
  const ofNetwork = (term: string): Subject[] => {
    let found: NetworkRecord;
    try {
      found = networks.find(term);
    } catch (error) {
      // The call itself tells what is wrong with the name.
      if (errorKind(error) === 'Unknown') throw error;
      return [];
    }
    // The engine's own networks are everyone's.
    if (predefinedNames.includes(found.name)) return [];
    return [{ kind: 'network', name: found.name, labels: found.labels, missing: `network ${term} not found` }];
  };
  const ofVolume = (name: string): Subject[] => {
    const found = records.volumes.get(name);
    return found === undefined ? [] : [volumeSubject(name, found.labels, found.options)];
  };
  return async (path, request) => {
    await records.fresh();
    const { Name = '', Labels } = documentIn(request, 'configJson') as Named;
    switch (path) {
      case '/flotilla.network.v1.Networks/Create':
        return [{ kind: 'network', name: Name, labels: Labels, isNew: true, missing: '' }];
      case '/flotilla.network.v1.Networks/Inspect':
      case '/flotilla.network.v1.Networks/Remove':
        return ofNetwork(textOf(request, 'network'));
      case '/flotilla.volume.v1.Volumes/Create':
        // One that is there is answered as if it had been made: it has to be his too.
        return [
          { kind: 'volume', name: Name, labels: Labels, isNew: true, missing: '' },
          ...ofVolume(Name).map((subject) => ({ ...subject, isNew: true })),
        ];
      case '/flotilla.volume.v1.Volumes/Inspect':
      case '/flotilla.volume.v1.Volumes/Remove':
      case '/flotilla.volume.v1.Volumes/Backup':
      case '/flotilla.volume.v1.Volumes/Restore':
        return ofVolume(textOf(request, 'name'));
      case '/flotilla.volume.v1.Volumes/Acquire': {
        // Those without a name of their own come with the container that is shared.
        const name = textOf(request, 'name');
        return records.volumes.get(name)?.anonymous === true ? [] : ofVolume(name);
      }
      default:
        return [];
    }
  };
}
