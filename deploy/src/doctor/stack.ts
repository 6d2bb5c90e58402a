/** The stack itself: is it up, is each service well, who has the sockets. */
import { errorMessage, isUnavailable } from '@flotilla/errors/classes';
import { isServed } from '@flotilla/service-kit/isServed';
import { dockerSocket } from '../options/hosts.ts';
import { askReport } from '../stack/controlClient.ts';
import { type Roots, stackPaths } from '../stack/paths.ts';
import { readState } from '../supervisor/state.ts';
import { type Finding, missing, ok, warning } from './finding.ts';

export async function checkStack(roots: Roots): Promise<Finding[]> {
  const paths = stackPaths(roots);
  try {
    const report = await askReport(paths.control);
    const absent = Object.entries(report.counts).filter(
      ([name, count]) => count > 0 && !report.processes.some((item) => item.service === name),
    );
    return [
      ...absent.map(([name]) => missing(name, 'does not stay up', `look at flotilla logs ${name}`)),
      ...report.processes.map((item) =>
        item.healthy
          ? ok(item.service, `healthy, pid ${item.pid}`)
          : missing(item.service, item.reason, `look at flotilla logs ${item.service}; flotilla restart ${item.service}`),
      ),
    ];
  } catch (error) {
    if (!isUnavailable(error)) return [warning('stack', errorMessage(error), 'run doctor as root')];
    if (readState(paths.state) !== undefined) {
      return [warning('stack', 'its supervisor is gone; services may still run', 'flotilla up starts one that takes over what runs')];
    }
    return [ok('stack', 'not running'), ...(await checkSocket())];
  }
}

async function checkSocket(): Promise<Finding[]> {
  if (!(await isServed(dockerSocket))) return [];
  return [
    warning(dockerSocket, 'another engine listens there, so it stays its own', 'use DOCKER_HOST, or a docker context, to reach Flotilla'),
  ];
}
