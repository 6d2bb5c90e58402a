import { expect, it } from 'vitest';
import { parseDockerfile } from './parse.ts';
import { NamedStages, neededStages } from './stageGraph.ts';

const none = { buildArgs: new Map(), globals: new Map(), isContext: () => false };

it('a name means the last stage of it before the one that asks, a number the stage of that place', () => {
  const { stages } = parseDockerfile('FROM a AS x\nFROM b AS y\nFROM c AS X\nFROM d\nFROM e\n');
  const named = new NamedStages(stages);
  expect([0, 1, 2, 3, 5].map((before) => named.find('x', before)?.index)).toEqual([undefined, 0, 0, 2, 2]);
  expect([1, 2, 3, 4].map((before) => named.find('1', before)?.index)).toEqual([undefined, 1, 1, 1]);
  expect([named.find('y')?.index, named.find('4')?.index, named.find('5'), named.find(''), named.find('z')]).toEqual([
    1,
    4,
    undefined,
    undefined,
    undefined,
  ]);
});

it('of many stages none is looked at again for each name', () => {
  const count = 5000;
  const indexes = Array.from({ length: count }, (_, index) => index);
  const lines = [
    ...indexes.map((index) => `FROM scratch AS s${index}`),
    'FROM scratch',
    ...indexes.map((index) => `COPY --from=s${index} / /`),
  ];
  const dockerfile = parseDockerfile(lines.join('\n'));
  let reads = 0;
  const stages = dockerfile.stages.map((stage) => ({
    ...stage,
    get name() {
      reads++;
      return stage.name;
    },
  }));
  expect(neededStages(dockerfile, stages as typeof dockerfile.stages, none)).toHaveLength(count + 1);
  expect(reads).toBeLessThan(3 * count);
});

it('stages that stand on each other in a long row are all found', () => {
  const count = 20_000;
  const lines = Array.from({ length: count }, (_, index) => `FROM ${index === 0 ? 'scratch' : `s${index - 1}`} AS s${index}`);
  const dockerfile = parseDockerfile(lines.join('\n'));
  expect(neededStages(dockerfile, dockerfile.stages, none)).toHaveLength(count);
});
