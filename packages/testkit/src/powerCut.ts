/** What a host loses when its power goes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestHost } from './testHost.ts';

/** Takes away processes, mounts, links, firewall rules, everything below /run; and the next boot has another name. @returns what ends that. */
export async function cutPower(host: TestHost): Promise<() => Promise<void>> {
  const { directory, execRoot } = host;
  const pids = (await host.processes()).map(({ pid }) => pid);
  if (pids.length > 0) await host.killSupervisor();
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  writeFileSync(join(directory, 'boot_id'), '00000000-0000-4000-8000-000000000000\n');
  await host.sh(`
    kill -9 $(cat ${execRoot}/container-service/runs/*/*.pid ${execRoot}/container-service/runs/*/pid 2>/dev/null | sort -u) || true
    awk '$5 ~ "^${directory}/(data|exec)/" {print $5}' /proc/self/mountinfo | sort -r | xargs -r -n 1 umount -l
    for link in $(ip -o link show type bridge | cut -d : -f 2) $(ip -o link show type vxlan | cut -d : -f 2); do ip link delete "$link"; done
    nft flush ruleset
    rm -rf ${execRoot}
    mount --bind ${directory}/boot_id /proc/sys/kernel/random/boot_id
  `);
  return async () => void (await host.sh('umount /proc/sys/kernel/random/boot_id'));
}
