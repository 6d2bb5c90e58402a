/** Flows the kernel tracks (conntrack): what `conntrack -L` and `-D` do, in the namespace of the socket, a netfilter one. */
import { hasCode } from './libc.ts';
import { attribute, type NetlinkSocket, nestedAttribute, parseAttributes, uint8Attribute, uint32Attribute } from './netlink.ts';
import { addressBytes, addressText } from './socket.ts';

const messageTypes = { get: 0x101, delete: 0x102 } as const;
const families = { 4: 2, 6: 10 } as const;
/** CTA_* */
const flowAttributes = { original: 1, reply: 2, id: 12, zone: 18, filter: 25 } as const;
const tupleAttributes = { address: 1, protocol: 2 } as const;
/** The addresses' attributes by family. */
const source = { 4: 1, 6: 3 } as const;
const protocolAttributes = { number: 1, destinationPort: 3 } as const;
/** CTA_FILTER_F_CTA_* */
const filterFlags = { source: 1 << 0, protocol: 1 << 3 } as const;

const nothing = Buffer.alloc(0);

export interface Flow {
  readonly family: 4 | 6;
  /** 6: TCP, 17: UDP, 132: SCTP. */
  readonly protocol: number;
  /** Whom the one that began it wrote to; 0 where the protocol has no ports. */
  readonly destinationPort: number;
  /** Who answers: behind a published port the container. */
  readonly answeredBy: string;
  /** What the kernel knows it by. */
  readonly key: Buffer;
}

/** Which flows; the kernel sorts out the others as it goes (kernels before 5.8 do not). */
export type FlowFilter = { readonly family: 4 | 6 } & ({ readonly answeredBy: string } | { readonly protocol: number });

/** struct nfgenmsg */
function flowHeader(family: 4 | 6): Buffer {
  return Buffer.from([families[family], 0, 0, 0]);
}

/** Walks the whole table, some ten milliseconds of the kernel's, in the background. */
export async function listFlows(socket: NetlinkSocket, filter: FlowFilter): Promise<Flow[]> {
  const payload = Buffer.concat([flowHeader(filter.family), ...filterParts(filter)]);
  const found = await socket.dumpInBackground(messageTypes.get, payload, 'list flows');
  return found.map((message) => flowOf(filter.family, message.payload)).filter((flow) => fits(flow, filter));
}

function filterParts(filter: FlowFilter): Buffer[] {
  const [original, reply] = [1, 2];
  if ('answeredBy' in filter) {
    const address = attribute(source[filter.family], addressBytes(filter.answeredBy));
    return [
      nestedAttribute(flowAttributes.reply, [nestedAttribute(tupleAttributes.address, [address])]),
      nestedAttribute(flowAttributes.filter, [uint32Attribute(reply, filterFlags.source)]),
    ];
  }
  const number = uint8Attribute(protocolAttributes.number, filter.protocol);
  return [
    nestedAttribute(flowAttributes.original, [nestedAttribute(tupleAttributes.protocol, [number])]),
    nestedAttribute(flowAttributes.filter, [uint32Attribute(original, filterFlags.protocol)]),
  ];
}

function fits(flow: Flow, filter: FlowFilter): boolean {
  return 'answeredBy' in filter ? flow.answeredBy === filter.answeredBy : flow.protocol === filter.protocol;
}

function flowOf(family: 4 | 6, payload: Buffer): Flow {
  const attributes = parseAttributes(payload.subarray(4));
  const part = (direction: 'original' | 'reply', what: keyof typeof tupleAttributes): Map<number, Buffer> => {
    const tuple = parseAttributes(attributes.get(flowAttributes[direction]) ?? nothing);
    return parseAttributes(tuple.get(tupleAttributes[what]) ?? nothing);
  };
  const protocol = part('original', 'protocol');
  const answering = part('reply', 'address').get(source[family]);
  // The number keeps a flow of the same addresses that has begun since.
  const key = [flowAttributes.id, flowAttributes.zone].flatMap((type) => {
    const value = attributes.get(type);
    return value === undefined ? [] : [attribute(type, value)];
  });
  return {
    family,
    protocol: protocol.get(protocolAttributes.number)?.readUInt8(0) ?? 0,
    destinationPort: protocol.get(protocolAttributes.destinationPort)?.readUInt16BE(0) ?? 0,
    answeredBy: answering === undefined ? '' : addressText(answering),
    key: Buffer.concat([nestedAttribute(flowAttributes.original, [attributes.get(flowAttributes.original) ?? nothing]), ...key]),
  };
}

/** Lets the kernel forget a flow: its next packet is looked at anew. Idempotent. */
export function deleteFlow(socket: NetlinkSocket, flow: Flow): void {
  try {
    socket.request(messageTypes.delete, 0, Buffer.concat([flowHeader(flow.family), flow.key]), 'delete flow');
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
