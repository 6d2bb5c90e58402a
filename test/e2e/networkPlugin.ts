/**
 * A small network and address plugin, as one that somebody would write: a bridge a network, a veth pair an endpoint, addresses counted up.
 * It writes each call into a file, a line a call, and fails where a file `fail-METHOD` says so.
 *
 * `node networkPlugin.ts SOCKET FOLDER`
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const [socket = '', folder = ''] = process.argv.slice(2);

type Answer = Record<string, unknown>;
interface Request {
  NetworkID: string;
  EndpointID: string;
  IPv4Data: { Gateway?: string }[];
  Interface: { Address: string; MacAddress: string };
  Pool: string;
  PoolID: string;
  Address: string;
}

const gateways = new Map<string, string>();
const taken = new Map<string, Set<string>>();
const ip = (...args: string[]): void => void execFileSync('ip', args);
const short = (id: string): string => id.slice(0, 8);

const methods: Readonly<Record<string, (request: Request) => Answer | null>> = {
  'Plugin.Activate': () => ({ Implements: ['NetworkDriver', 'IpamDriver'] }),
  'NetworkDriver.GetCapabilities': () => ({ Scope: 'local' }),
  'NetworkDriver.CreateNetwork': ({ NetworkID, IPv4Data }) => {
    const bridge = `rb-${short(NetworkID)}`;
    ip('link', 'add', bridge, 'type', 'bridge');
    const gateway = IPv4Data[0]?.Gateway;
    if (gateway !== undefined) {
      gateways.set(NetworkID, gateway);
      ip('address', 'add', gateway, 'dev', bridge);
    }
    ip('link', 'set', bridge, 'up');
    return null;
  },
  'NetworkDriver.DeleteNetwork': ({ NetworkID }) => {
    ip('link', 'delete', `rb-${short(NetworkID)}`);
    return null;
  },
  'NetworkDriver.CreateEndpoint': ({ EndpointID, Interface }) => {
    if (Interface.MacAddress !== '') return null;
    const tail = EndpointID.slice(0, 8).match(/../g) ?? [];
    return { Interface: { MacAddress: ['0a', 'ff', ...tail].join(':') } };
  },
  'NetworkDriver.Join': ({ NetworkID, EndpointID }) => {
    const [host, inner] = [`rh-${short(EndpointID)}`, `rc-${short(EndpointID)}`];
    ip('link', 'add', host, 'type', 'veth', 'peer', 'name', inner);
    ip('link', 'set', host, 'master', `rb-${short(NetworkID)}`, 'up');
    const gateway = gateways.get(NetworkID)?.split('/')[0];
    return {
      InterfaceName: { SrcName: inner, DstPrefix: 'red' },
      ...(gateway === undefined
        ? {}
        : { Gateway: gateway, StaticRoutes: [{ Destination: '10.99.0.0/16', RouteType: 0, NextHop: gateway }] }),
    };
  },
  'NetworkDriver.Leave': () => ({}),
  'NetworkDriver.DeleteEndpoint': ({ EndpointID }) => {
    // By its name on the host: it has been given back.
    ip('link', 'delete', `rc-${short(EndpointID)}`);
    return {};
  },
  'IpamDriver.GetDefaultAddressSpaces': () => ({ LocalDefaultAddressSpace: 'redLocal', GlobalDefaultAddressSpace: 'redGlobal' }),
  'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: false }),
  'IpamDriver.RequestPool': ({ Pool }) => {
    const block = Pool === '' ? '10.88.0.0/16' : Pool;
    taken.set(block, new Set());
    return { PoolID: block, Pool: block };
  },
  'IpamDriver.ReleasePool': ({ PoolID }) => {
    const left = taken.get(PoolID);
    if (left === undefined || left.size > 0) return { Error: `pool ${PoolID} holds ${[...(left ?? [])].join(' ')}` };
    taken.delete(PoolID);
    return null;
  },
  'IpamDriver.RequestAddress': ({ PoolID, Address }) => {
    const pool = taken.get(PoolID);
    if (pool === undefined) return { Error: 'unknown pool id' };
    const base = PoolID.split('.').slice(0, 3).join('.');
    let last = 1;
    while (pool.has(`${base}.${last}`)) last += 1;
    const address = Address === '' ? `${base}.${last}` : Address;
    if (pool.has(address)) return { Error: `${address} is taken` };
    pool.add(address);
    return { Address: `${address}/${PoolID.split('/')[1]}` };
  },
  'IpamDriver.ReleaseAddress': ({ PoolID, Address }) =>
    taken.get(PoolID)?.delete(Address) === true ? null : { Error: `unknown address ${Address}` },
};

const server = createServer((request, response) => {
  let body = '';
  request.on('data', (chunk: Buffer) => {
    body += chunk.toString();
  });
  request.on('end', () => {
    const method = (request.url ?? '').slice(1);
    appendFileSync(join(folder, 'calls'), `${JSON.stringify({ method, ...JSON.parse(body || '{}') })}\n`);
    const answerTo = methods[method];
    const failure = join(folder, `fail-${method}`);
    const words = existsSync(failure) ? readFileSync(failure, 'utf8').trim() : undefined;
    response.writeHead(answerTo === undefined ? 404 : 200, { 'content-type': 'application/vnd.docker.plugins.v1.1+json' });
    try {
      const answer = words === undefined ? answerTo?.(JSON.parse(body || '{}')) : { Err: words, Error: words };
      response.end(JSON.stringify(answer ?? null));
    } catch (error) {
      response.end(JSON.stringify({ Err: String(error) }));
    }
  });
});
server.listen(socket, () => process.stdout.write('ready\n'));
