/** flotilla.network.v1.Networks */
import type { NetworksService } from '@flotilla/contracts/flotilla/network/v1/networks';
import { networkCreateRequest } from '@flotilla/engine-api';
import type { Handlers } from '@flotilla/service-kit';
import { ownedBy, type PolicySource } from '@flotilla/service-kit/rights';
import type { NetworkInfo } from '../networkInfo.ts';
import type { Networks } from '../networks.ts';
import type { Records } from '../records.ts';
import { fromJsonBytes, toJsonBytes } from './convert.ts';

export function networksApi(
  networks: Networks,
  records: Records,
  info: () => NetworkInfo,
  policy?: PolicySource,
): Handlers<typeof NetworksService> {
  return {
    create: (request) => networks.create(fromJsonBytes(networkCreateRequest, request.configJson)),
    async inspect({ network, scope }) {
      await records.fresh();
      return { networkJson: toJsonBytes(networks.inspect(network, scope)) };
    },
    async list({ filters }) {
      await records.fresh();
      return { networksJson: toJsonBytes(networks.list(filters)) };
    },
    async remove({ network }) {
      await networks.remove(network);
      return {};
    },
    prune: async ({ filters }) => ({ names: await networks.prune(filters, ownedBy(policy)) }),
    async counts() {
      await records.fresh();
      return { networks: records.networks.size, infoJson: toJsonBytes(info()) };
    },
  };
}
