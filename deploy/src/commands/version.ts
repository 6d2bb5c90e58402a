/** `flotilla version`: of this checkout, and of what runs. */
import { isUnavailable } from '@flotilla/errors/classes';
import { apiVersion, engineVersion, minApiVersion, version } from '@flotilla/service-kit/version';
import { askReport } from '../stack/controlClient.ts';
import { type Roots, stackPaths } from '../stack/paths.ts';

export async function showVersion(roots: Roots): Promise<void> {
  const lines = [
    `Flotilla ${version}`,
    `  engine       ${engineVersion}`,
    `  Engine API   ${minApiVersion} to ${apiVersion}`,
    `  Node         ${process.version}`,
  ];
  try {
    const report = await askReport(stackPaths(roots).control);
    lines.push(`running: Flotilla ${report.version}, supervisor pid ${report.pid}`);
    for (const item of report.processes) lines.push(`  ${item.service.padEnd(18)} ${item.version}`);
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    lines.push('running: no');
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}
