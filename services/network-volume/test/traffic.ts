/** Programs that send and answer what tests look at. */

export const serverScript = (port: number, word: string): string =>
  `require('net').createServer((s) => s.on('error', () => 0).end(${JSON.stringify(word)})).listen(${port}, '0.0.0.0', () => console.log('up'))`;

/** Sends a datagram every 50 ms, always from the same socket, and prints the answers. */
export const senderProgram = (address: string, port: number): string => `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.05)
while True:
    s.sendto(b'?', ('${address}', ${port}))
    try: print(s.recv(100).decode())
    except OSError: pass
`;
export const echoProgram = (port: number, word: string): string => `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', ${port})); print('up')
while True: s.sendto(b'${word}', s.recvfrom(100)[1])
`;

/** A name server: it counts what it is asked, and one of its names has sixty addresses. */
export const upstreamProgram = (address: string): string => `
const dns = require('dns-packet');
let asked = 0;
function answer(message, limit) {
  const query = dns.decode(message), [{ name }] = query.questions;
  asked += 1;
  const record = (last) => ({ type: 'A', name, ttl: 60, data: '192.0.2.' + last });
  const answers = name === 'nothing.test' ? [] : name === 'big.test' ? Array.from({ length: 60 }, (_, index) => record(index)) : [record(asked)];
  const packet = { type: 'response', id: query.id, flags: name === 'nothing.test' ? 3 : 0, questions: query.questions, answers };
  const whole = dns.encode(packet);
  return whole.length <= limit ? whole : dns.encode({ ...packet, flags: dns.TRUNCATED_RESPONSE, answers: [] });
}
const datagrams = require('dgram').createSocket('udp4');
datagrams.on('message', (message, from) => datagrams.send(answer(message, 512), from.port, from.address));
datagrams.bind(53, '${address}', () => require('net').createServer((socket) => socket.on('data', (framed) => {
  const whole = answer(framed.subarray(2), 65535), length = Buffer.alloc(2);
  length.writeUInt16BE(whole.length);
  socket.end(Buffer.concat([length, whole]));
})).listen(53, '${address}', () => console.log('up')));
`;

export const fetchScript = (address: string, port: number): string => `timeout 2 busybox nc ${address} ${port} </dev/null || true`;

export async function fetchFrom(place: { sh(script: string): Promise<string> }, address: string, port: number): Promise<string> {
  return (await place.sh(fetchScript(address, port))).trim();
}
