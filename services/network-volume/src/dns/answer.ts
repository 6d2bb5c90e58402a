/** What the embedded server itself answers. Pure but for the shuffle. */
import { type Answer, AUTHORITATIVE_ANSWER, encode, type Packet, RECURSION_AVAILABLE, RECURSION_DESIRED } from 'dns-packet';
import type { NamedEndpoint } from './directory.ts';

export interface Names {
  lookup(name: string): NamedEndpoint[] | undefined;
  reverse(address: string): NamedEndpoint | undefined;
}

/** Short: a container may have another address after its restart. */
const ttlSeconds = 5;
/** What fits into a datagram of a client that did not say it takes more (RFC 1035, EDNS). */
const plainDatagramBytes = 512;

/** @returns undefined when the question is not about a container and must be asked upstream. */
export function localAnswer(query: Packet, names: Names): Packet | undefined {
  const question = query.questions?.[0];
  if (question === undefined || query.questions?.length !== 1) return undefined;
  const name = question.name.replace(/\.$/, '');
  if (question.type === 'PTR') {
    const address = reverseAddress(name);
    const found = address === undefined ? undefined : names.reverse(address);
    if (found === undefined) return undefined;
    return response(query, [{ type: 'PTR', name: question.name, ttl: ttlSeconds, data: `${found.containerName}.${found.networkName}` }]);
  }
  const found = names.lookup(name);
  if (found === undefined) return undefined;
  const addresses = found.flatMap(({ ipv4, ipv6 }) => {
    const data = question.type === 'A' ? ipv4 : question.type === 'AAAA' ? ipv6 : undefined;
    return data === undefined ? [] : [data];
  });
  const type = question.type === 'AAAA' ? 'AAAA' : 'A';
  return response(
    query,
    shuffled(addresses).map((data) => ({ type, name: question.name, ttl: ttlSeconds, data })),
  );
}

function response(query: Packet, answers: Answer[]): Packet {
  return {
    type: 'response',
    id: query.id ?? 0,
    flags: AUTHORITATIVE_ANSWER | RECURSION_AVAILABLE | ((query.flags ?? 0) & RECURSION_DESIRED),
    questions: query.questions ?? [],
    answers,
  };
}

/** An answer that says only that something went wrong: 2 SERVFAIL, 1 FORMERR. */
export function failure(query: Packet, code: number): Packet {
  return { ...response(query, []), flags: RECURSION_AVAILABLE | ((query.flags ?? 0) & RECURSION_DESIRED) | code };
}

/** The bytes for a datagram: cut to its question, with the truncated flag, when they are too many for the client. */
export function datagram(query: Packet, answer: Packet): Buffer {
  const bytes = encode(answer);
  const options = query.additionals?.find(({ type }) => type === 'OPT');
  const limit =
    options !== undefined && 'udpPayloadSize' in options ? Math.max(plainDatagramBytes, options.udpPayloadSize) : plainDatagramBytes;
  if (bytes.length <= limit) return bytes;
  const truncated = 1 << 9;
  return encode({ ...answer, flags: (answer.flags ?? 0) | truncated, answers: [] });
}

/** `2.0.17.172.in-addr.arpa` → 172.17.0.2; of IPv6 only the canonical text is given. */
export function reverseAddress(name: string): string | undefined {
  const four = /^((?:\d{1,3}\.){4})in-addr\.arpa$/i.exec(name);
  if (four?.[1] !== undefined) return four[1].slice(0, -1).split('.').reverse().join('.');
  const six = /^((?:[0-9a-f]\.){32})ip6\.arpa$/i.exec(name);
  if (six?.[1] === undefined) return undefined;
  const digits = six[1].replaceAll('.', '').split('').reverse().join('');
  return shortIPv6((digits.match(/.{4}/g) ?? []).join(':'));
}

function shortIPv6(text: string): string {
  // The URL parser knows the shortest form.
  return new URL(`http://[${text}]`).hostname.slice(1, -1);
}

function shuffled<T>(items: readonly T[]): T[] {
  const offset = Math.floor(Math.random() * items.length);
  return [...items.slice(offset), ...items.slice(0, offset)];
}
