import { describe, expect, it } from 'vitest';
import { type ForeignChain, type ForeignTable, type ListedRule, nftForwardCommands } from './nftForwardRules.ts';

const forward: ForeignChain = { name: 'forward', policy: 'drop', rules: [] };
const tableOf = (chain: Partial<ForeignChain>, ours?: ListedRule[]): ForeignTable => ({
  family: 'inet',
  table: 'fw',
  chains: [{ ...forward, ...chain }],
  ours,
});
const letsThrough = (key: string, bridge: string): ListedRule => ({
  handle: 9,
  expr: [{ match: { op: '==', left: { meta: { key } }, right: bridge } }, { accept: null }],
});
const jump: ListedRule = { handle: 4, comment: 'flotilla', expr: [{ jump: { target: 'FLOTILLA-FORWARD' } }] };
const theirs: ListedRule = { handle: 2, expr: [{ counter: {} }, { reject: null }] };
const ours = [letsThrough('iifname', 'br-1'), letsThrough('oifname', 'br-1')];

describe('the jump in a firewall written in nftables', () => {
  it('is made where the chain drops, by its policy or its last rule, and nowhere else', () => {
    expect(nftForwardCommands(tableOf({}), ['br-1'])).toEqual([
      'add chain inet fw FLOTILLA-FORWARD',
      'flush chain inet fw FLOTILLA-FORWARD',
      'add rule inet fw FLOTILLA-FORWARD iifname "br-1" accept',
      'add rule inet fw FLOTILLA-FORWARD oifname "br-1" accept',
      'insert rule inet fw forward jump FLOTILLA-FORWARD comment "flotilla"',
    ]);
    expect(nftForwardCommands(tableOf({ policy: 'accept', rules: [theirs] }), ['br-1'])).toHaveLength(5);
    expect(nftForwardCommands(tableOf({ policy: 'accept' }), ['br-1'])).toEqual([]);
    const some = { handle: 3, expr: [{ match: {} }, { drop: null }] };
    expect(nftForwardCommands(tableOf({ policy: 'accept', rules: [some] }), ['br-1'])).toEqual([]);
  });

  it('stays as it is while it is right, first and once', () => {
    expect(nftForwardCommands(tableOf({ rules: [jump, theirs] }, ours), ['br-1'])).toEqual([]);
    const more = nftForwardCommands(tableOf({ rules: [jump, theirs] }, ours), ['br-1', 'br-2']);
    expect(more).toContain('add rule inet fw FLOTILLA-FORWARD iifname "br-2" accept');
    expect(nftForwardCommands(tableOf({ rules: [theirs, jump] }, ours), ['br-1'])).toContain('delete rule inet fw forward handle 4');
  });

  it('goes with the last need, and its chain after the last jump to it', () => {
    const gone = ['delete rule inet fw forward handle 4', 'flush chain inet fw FLOTILLA-FORWARD', 'delete chain inet fw FLOTILLA-FORWARD'];
    expect(nftForwardCommands(tableOf({ rules: [jump, theirs] }, ours), [])).toEqual(gone);
    expect(nftForwardCommands(tableOf({ policy: 'accept', rules: [jump] }, ours), ['br-1'])).toEqual(gone);
    const two = {
      ...tableOf({}, ours),
      chains: [
        { ...forward, rules: [jump] },
        { ...forward, name: 'late', policy: 'accept', rules: [jump] },
      ],
    };
    expect(nftForwardCommands(two, ['br-1'])).not.toContain('delete chain inet fw FLOTILLA-FORWARD');
    expect(nftForwardCommands(two, []).at(-1)).toBe('delete chain inet fw FLOTILLA-FORWARD');
  });
});
