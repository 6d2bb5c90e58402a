/**
 * The same requests to this engine and to the dockerd that distributions ship, and the same answers: status, message, content type, kind of body.
 * Where a newer dockerd answers otherwise, or this engine does on purpose, answers/laterWords.ts and answers/exceptions.ts say so, with the reason.
 */
import type { TestHost } from '@flotilla/testkit';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AnswerCase, ask, caseName } from './answers/answerCase.ts';
import { type Answer, answerOf } from './answers/compare.ts';
import { archiveCases, containerLists, containerStates, execCases, missingContainers } from './answers/containerCases.ts';
import { containerCreation } from './answers/creationCases.ts';
import { exceptions } from './answers/exceptions.ts';
import { imageCases } from './answers/imageCases.ts';
import { differences, expectedAnswer } from './answers/laterWords.ts';
import { networkCases, volumeCases } from './answers/networkVolumeCases.ts';
import { pluginCases, swarmCases, systemCases } from './answers/systemCases.ts';
import { startNetworkedDockerd } from './peer.ts';
import { useStack } from './stack.ts';

const groups: [name: string, cases: AnswerCase[]][] = [
  ['containers that are not there', missingContainers],
  ['containers in each state', containerStates],
  ['lists of containers', containerLists],
  ['creation', containerCreation],
  ['execs', execCases],
  ['archives', archiveCases],
  ['images', imageCases],
  ['networks', networkCases],
  ['volumes', volumeCases],
  ['the engine', systemCases],
  ['plugins', pluginCases],
  ['swarm', swarmCases],
];

const stack = useStack();
let peer: TestHost;

beforeAll(async () => {
  peer = await startNetworkedDockerd(stack.busyboxImage);
  await Promise.all([prepare(stack.host.socketPath), prepare(peer.socketPath)]);
}, 180_000);
afterAll(() => peer?.dispose(), 60_000);

/** What the cases speak of: containers in four states, a network, a volume. */
async function prepare(socketPath: string): Promise<void> {
  const image = '127.0.0.1:5000/busybox:latest';
  const must = async (request: string, body?: object): Promise<Answer> => {
    const answer = await answerOf(socketPath, ask(request, body));
    if (answer.status >= 400) throw new Error(`${request}: ${answer.status} ${answer.message}`);
    return answer;
  };
  await must('POST /images/create?fromImage=127.0.0.1:5000/busybox&tag=latest');
  await must('POST /networks/create', { Name: 'net' });
  await must('POST /volumes/create', { Name: 'vol' });
  const sleeping = { Image: image, Cmd: ['sleep', '10000'] };
  await must('POST /containers/create?name=created', { Image: image, Cmd: ['true'] });
  await must('POST /containers/create?name=exited', { Image: image, Cmd: ['echo', 'hello'] });
  await must('POST /containers/create?name=running', { ...sleeping, HostConfig: { NetworkMode: 'net', Binds: ['vol:/vol'] } });
  await must('POST /containers/create?name=paused', sleeping);
  for (const name of ['exited', 'running', 'paused']) await must(`POST /containers/${name}/start`);
  await must('POST /containers/exited/wait');
  await must('POST /containers/paused/pause');
}

/** No answer at all is an answer too: dockerd breaks the connection where it panics. */
function answerOrNone(socketPath: string, asked: AnswerCase): Promise<Answer> {
  return answerOf(socketPath, asked).catch(() => ({ status: -1, message: '', type: '', body: '' }));
}

describe('the table of answers', () => {
  it('is large, and each of its exceptions is one of its cases', () => {
    const names = groups.flatMap(([, cases]) => cases.map(caseName));
    expect(names.length).toBeGreaterThan(600);
    expect(new Set(names).size).toBe(names.length);
    const known = new Set(names);
    expect(exceptions.flatMap(({ answers }) => Object.keys(answers)).filter((name) => !known.has(name))).toEqual([]);
  });

  it.each(groups)('%s', async (_name, cases) => {
    const found: string[] = [];
    for (const asked of cases) {
      const [ours, theirs] = await Promise.all([answerOrNone(stack.host.socketPath, asked), answerOrNone(peer.socketPath, asked)]);
      for (const difference of differences(expectedAnswer(asked, theirs), ours)) found.push(`${caseName(asked)}: ${difference}`);
    }
    expect(found).toEqual([]);
  });
});
