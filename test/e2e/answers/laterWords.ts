/**
 * What became of dockerd 20.10's answers by version 28, rule by rule: the table is compared with the dockerd that distributions ship, and this engine
 * answers as the one whose API version it speaks. What single cases do otherwise is in exceptions.ts.
 */
import { type AnswerCase, caseName } from './answerCase.ts';
import type { Answer } from './compare.ts';
import { exceptions } from './exceptions.ts';

interface Rule {
  readonly why: string;
  /** Undefined where the rule does not apply. */
  readonly apply: (peer: Answer, asked: AnswerCase) => Partial<Answer> | undefined;
}

const jsonTrouble = /^(?:EOF|unexpected EOF|got EOF while reading request body|invalid character .*|json: cannot unmarshal .*)$/;
const message = (pattern: RegExp, replacement: string): Rule['apply'] => {
  return (peer) => (pattern.test(peer.message) ? { message: peer.message.replace(pattern, replacement) } : undefined);
};

/** Go's structs that have other names now. */
const renamedStructs: [older: string, newer: string][] = [
  ['runconfig.ContainerConfigWrapper', 'container.CreateRequest'],
  ['ContainerConfigWrapper', 'CreateRequest'],
  ['VolumeCreateBody', 'CreateOptions'],
  ['types.NetworkCreateRequest', 'network.CreateRequest'],
  ['NetworkCreateRequest', 'CreateRequest'],
  ['ExecConfig', 'ExecOptions'],
];

const rules: Rule[] = [
  {
    why: 'HEAD is GET without the body here; dockerd has no page for it',
    apply: (peer, { request }) =>
      request.startsWith('HEAD ') && peer.status === 404 && !/ghost|no\/such/.test(request) ? { status: 200 } : undefined,
  },
  {
    why: 'a filter that is not JSON has one message',
    apply: (peer, { request }) =>
      /[?&]filters=/.test(request) && /^(?:error reading volume filters: )?(?:invalid character|json: cannot unmarshal)/.test(peer.message)
        ? { status: 400, message: 'invalid filter' }
        : undefined,
  },
  {
    why: 'a body that is not JSON is the sender’s mistake',
    apply: (peer) => {
      if (!jsonTrouble.test(peer.message)) return undefined;
      let text = peer.message === 'EOF' ? 'got EOF while reading request body' : peer.message;
      for (const [older, newer] of renamedStructs) text = text.replace(older, newer);
      return { status: 400, message: `invalid JSON: ${text}` };
    },
  },
  {
    why: 'content types have new words',
    apply: message(
      /^Content-Type specified \((.*)\) must be 'application\/json'$/,
      "unsupported Content-Type header ($1): must be 'application/json'",
    ),
  },
  {
    why: 'streams of output say what they are',
    apply: (peer, { request }) =>
      /\/logs\?/.test(request) && peer.status === 200 ? { type: 'application/vnd.docker.raw-stream' } : undefined,
  },
  {
    why: 'a time or duration is refused by its text',
    apply: message(/^strconv\.ParseInt: parsing ("[^"]*"): invalid syntax$/, 'failed to parse value as time or duration: $1'),
  },
  {
    why: 'an error of a name has lost its first half',
    apply: message(/^Cannot kill container: ghost: /, ''),
  },
  {
    why: 'a missing image is told once',
    apply: message(/^no such image: [^:]+(?::[a-z]+|:5000\/ghost|:00)?: (?=No such image|invalid reference)/, ''),
  },
  { why: 'words have been put right', apply: message(/Container ID is not running$/, 'container ID is not running') },
  { why: 'words have been put right', apply: message(/pathcannot be empty/, 'path cannot be empty') },
  {
    why: 'a container that must not be removed is named, and the remedy told',
    apply: message(
      /^You cannot remove a running container ID\. .*$/,
      'cannot remove container "/running": container is running: stop the container before removing or force remove',
    ),
  },
  {
    why: 'a container that must not be removed is named, and the remedy told',
    apply: message(
      /^You cannot remove a paused container ID\. .*$/,
      'cannot remove container "/paused": container is paused and must be unpaused first',
    ),
  },
  {
    why: 'restart policies have new words',
    apply: message(
      /^invalid restart policy 'nonsense'$/,
      "invalid restart policy: unknown policy 'nonsense'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    ),
  },
  {
    why: 'restart policies have new words',
    apply: message(
      /^maximum retry count cannot be used with restart policy '.*'$/,
      "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ),
  },
  {
    why: 'restart policies have new words',
    apply: message(/^maximum retry count cannot be negative$/, 'invalid restart policy: maximum retry count cannot be negative'),
  },
  { why: 'volume creation no longer names the volume', apply: message(/^create a: /, '') },
  {
    why: 'the newest version is newer',
    apply: message(/Maximum supported API version is 1\.41$/, 'Maximum supported API version is 1.50'),
  },
];

const exceptional = new Map(exceptions.flatMap(({ answers }) => Object.entries(answers)));

/** What is expected of this engine, where the dockerd compared with has answered `peer`. */
export function expectedAnswer(asked: AnswerCase, peer: Answer): Answer {
  let answer = peer;
  for (const rule of rules) answer = { ...answer, ...rule.apply(answer, asked) };
  return { ...answer, ...exceptional.get(caseName(asked)) };
}

/** Words are written with a small first letter now; nothing hangs on it. */
function folded(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** What is different, in words; empty when the answers agree. A mistake of the sender for which dockerd blames itself (500) is answered by 4xx here. */
export function differences(expected: Answer, answer: Answer): string[] {
  const found: string[] = [];
  const blamed = expected.status === 500 && answer.status >= 400 && answer.status < 500;
  if (answer.status !== expected.status && !blamed) found.push(`status ${answer.status}, not ${expected.status}`);
  if (folded(answer.message) !== folded(expected.message))
    found.push(`message ${JSON.stringify(answer.message)}, not ${JSON.stringify(expected.message)}`);
  if (answer.type !== expected.type) found.push(`type ${answer.type}, not ${expected.type}`);
  if (answer.body !== expected.body) found.push(`body ${answer.body}, not ${expected.body}`);
  return found;
}
