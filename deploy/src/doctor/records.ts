/** Whether records were lost, and what has become of them (packages/records/src/restoration.ts). */
import { areLost, lastRestoration, lostPath } from '@flotilla/records/restoration';
import { type Roots, stackPaths } from '../stack/paths.ts';
import { type Finding, missing, warning } from './finding.ts';

const recordKeepers = ['container-service', 'image-service', 'network-volume'] as const;
const newsMs = 7 * 24 * 60 * 60 * 1000;

/** What is to be done where the records of a service are lost. */
export function lostHint(service: (typeof recordKeepers)[number], directory: string): string {
  const giveUp = `rm ${lostPath(directory)} and flotilla restart ${service} remove what no record tells of`;
  return `between flotilla down and up put the data of Redis back, if there are any; then, or to give it up: ${giveUp}`;
}

/** Nothing where nothing is to be said. */
export function checkRecords(roots: Roots): Finding[] {
  const { dataRoot } = stackPaths(roots);
  return recordKeepers.flatMap((service) => {
    const directory = `${dataRoot}/${service}`;
    const findings: Finding[] = [];
    if (areLost(directory)) {
      findings.push(
        missing(
          `records of ${service}`,
          'were lost: Redis had none and there was no copy. What no record tells of is left as it is, and goes on where it runs; no copy is kept meanwhile',
          lostHint(service, directory),
        ),
      );
    }
    const restored = lastRestoration(directory);
    if (restored !== undefined && Date.now() - Date.parse(restored.at) < newsMs) {
      const source = restored.from === 'copy' ? 'the copy in the data root' : 'the memory of a running instance';
      findings.push(
        warning(
          `records of ${service}`,
          `Redis had lost ${restored.records} of them, and they were restored from ${source} at ${restored.at}`,
          'nothing is to be done for them; find out why Redis lost its data',
        ),
      );
    }
    return findings;
  });
}
