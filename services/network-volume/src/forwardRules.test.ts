import { describe, expect, it } from 'vitest';
import { forwardPlan } from './forwardRules.ts';

const accepting = '-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n';
const dropping = '-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n';
const docker = '-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n';
const made =
  '-N FLOTILLA-FORWARD\n-A FORWARD -m comment --comment flotilla -j FLOTILLA-FORWARD\n-A FLOTILLA-FORWARD -o docker0 -j ACCEPT\n-A FLOTILLA-FORWARD -i docker0 -j ACCEPT\n';

describe('the jump in the host’s own rules', () => {
  it('is not made where nothing drops', () => {
    expect(forwardPlan(accepting, ['docker0'])).toBeUndefined();
    expect(forwardPlan(dropping, [])).toBeUndefined();
    expect(forwardPlan(`${accepting}-A FORWARD -s 10.0.0.1/32 -j DROP\n`, ['docker0'])).toBeUndefined();
  });

  it('is made once, at the head, and follows the bridges', () => {
    expect(forwardPlan(dropping, ['docker0'])).toEqual({
      parent: 'FORWARD',
      restore:
        '*filter\n:FLOTILLA-FORWARD - [0:0]\n-A FLOTILLA-FORWARD -o docker0 -j ACCEPT\n-A FLOTILLA-FORWARD -i docker0 -j ACCEPT\n-I FORWARD 1 -m comment --comment flotilla -j FLOTILLA-FORWARD\nCOMMIT\n',
    });
    expect(forwardPlan(dropping + made, ['docker0'])).toBeUndefined();
    expect(forwardPlan(dropping + made, ['docker0', 'br-1'])?.restore).toContain(
      '-D FORWARD -m comment --comment flotilla -j FLOTILLA-FORWARD',
    );
  });

  it('is made too where a rule for all packets drops', () => {
    expect(forwardPlan(`${accepting}-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n`, ['docker0'])?.parent).toBe('FORWARD');
  });

  it('goes to dockerd’s chain for operators where there is one', () => {
    expect(forwardPlan(docker, ['flotilla0'])?.parent).toBe('DOCKER-USER');
  });

  it('is taken away when it is needed no more', () => {
    expect(forwardPlan(accepting + made, ['docker0'])).toMatchObject({
      parent: undefined,
      restore: expect.stringContaining('-X FLOTILLA-FORWARD'),
    });
    expect(forwardPlan(dropping + made, [])).toMatchObject({ parent: undefined });
  });
});
