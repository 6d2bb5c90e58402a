import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '@flotilla/testkit';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type ClaimedStream, LogClaims } from './logClaims.ts';
import { compressFile } from './logs/compressed.ts';
import { LogPins } from './logs/index.ts';
import { LogUsers } from './logUsers.ts';

let readers: string;
beforeEach(() => {
  readers = mkdtempSync(join(tmpdir(), 'claims-'));
});
afterEach(() => rmSync(readers, { recursive: true }));

const instance = (): LogClaims =>
  new LogClaims({ paths: { readers, log: (id) => `/no/${id}` }, users: new LogUsers(), pins: new LogPins(), graceMs: 20, cutGraceMs: 20 });
const stream: ClaimedStream = { containerId: 'c', tty: false, endsInput: true };
const place = { inode: 7, offset: 9, unfinished: 0 };

/** As if the instance that wrote the claims had died. */
function die(): void {
  for (const name of readdirSync(readers).filter((each) => !each.endsWith('.input'))) {
    const claim = JSON.parse(readFileSync(join(readers, name), 'utf8'));
    writeFileSync(join(readers, name), JSON.stringify({ ...claim, owner: { pid: 1, start: '0' } }));
  }
}

it('a stream whose holder does not come back is given up', async () => {
  instance().claim(stream).cursorOf({ place });
  die();
  const next = instance();
  const abandoned: ClaimedStream[] = [];
  next.onAbandoned((each) => abandoned.push(each));
  next.adopt();
  await waitFor(() => abandoned.length > 0, { what: 'it to be given up' });
  expect(abandoned).toEqual([stream]);
  expect(readdirSync(readers)).toEqual([]);
});

it('a stream that goes on knows whether input was under way', () => {
  const claim = instance().claim(stream);
  const cursor = claim.cursorOf({ place });
  const mark = claim.inputMark();
  mark.begin();
  mark.begin();
  mark.end();
  die();
  expect(instance().resume(cursor)).toMatchObject({ place, inputIsKnown: false });
  mark.end();
  expect(instance().resume(cursor)).toMatchObject({ place, inputIsKnown: true });
});

it('a container is unread when the readers of every instance have ended or do not come back', async () => {
  const [remover, reader, killed] = [instance(), instance(), instance()];
  killed.claim(stream).cursorOf({ place });
  die();
  const claim = reader.claim(stream);
  claim.cursorOf({ place });
  reader.claim({ ...stream, containerId: 'd' }).cursorOf({ place });
  let unread = false;
  const waiting = remover.whenUnread('c').then(() => {
    unread = true;
  });
  await waitFor(() => readdirSync(readers).length === 2, { what: 'what the killed one left to be given up' });
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(unread).toBe(false);
  claim.release(false);
  await waiting;
  expect(readdirSync(readers).length).toBe(1);
});

it('where attached readers of other instances stand is known', () => {
  const attached: ClaimedStream = { ...stream, attached: { startedAt: '', error: '' } };
  const [here, elsewhere] = [instance(), instance()];
  here.claim(attached).cursorOf({ place: { ...place, inode: 1 } });
  elsewhere.claim(attached).cursorOf({ place: { ...place, inode: 2 } });
  elsewhere.claim(stream).cursorOf({ place: { ...place, inode: 3 } });
  expect(here.attachedElsewhere('c')).toEqual([]);
  die();
  expect(here.attachedElsewhere('c').sort()).toEqual([1, 2]);
  expect(here.attachedElsewhere('d')).toEqual([]);
});

it('a stream that goes on at one instance is not given up by another', async () => {
  const cursor = instance().claim(stream).cursorOf({ place });
  die();
  const [first, second] = [instance(), instance()];
  const abandoned: ClaimedStream[] = [];
  first.onAbandoned((each) => abandoned.push(each));
  first.adopt();
  const { claim } = second.resume(cursor);
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(abandoned).toEqual([]);
  expect(second.resume(claim.cursorOf({ place })).place).toEqual(place);
});

it('who stood in a file that is compressed by now is known to stand there, whoever gets its inode later', async () => {
  const log = join(readers, '..', `claims-log-${process.pid}`);
  const claims = (): LogClaims =>
    new LogClaims({ paths: { readers, log: () => log }, users: new LogUsers(), pins: new LogPins(), graceMs: 10_000 });
  try {
    writeFileSync(log, 'live\n');
    writeFileSync(`${log}.1`, 'rotated\n');
    const [live, rotated] = [statSync(log).ino, statSync(`${log}.1`).ino];
    const cursors = [live, rotated].map((inode) =>
      claims()
        .claim(stream)
        .cursorOf({ place: { ...place, inode } }),
    );
    await compressFile(`${log}.1`);
    die();
    const next = claims();
    next.adopt();
    expect(cursors.map((cursor) => next.resume(cursor).place.inode)).toEqual([live, statSync(`${log}.1.gz`).ino]);
  } finally {
    for (const name of [log, `${log}.1`, `${log}.1.gz`]) rmSync(name, { force: true });
  }
});

it('who notices late that its stream goes on elsewhere does not give it up', () => {
  const claims = instance();
  const cut = claims.claim(stream);
  const cursor = cut.cursorOf({ place });
  const next = claims.resume(cursor).claim;
  for (const isCut of [true, false]) cut.release(isCut);
  expect(readdirSync(readers)).toHaveLength(1);
  // As if another instance had it.
  die();
  const [name = ''] = readdirSync(readers);
  const elsewhere = readFileSync(join(readers, name), 'utf8');
  next.cursorOf({ place: { ...place, inode: 8 } });
  for (const isCut of [true, false]) next.release(isCut);
  expect(readFileSync(join(readers, name), 'utf8')).toBe(elsewhere);
});

it('a stream that was cut is kept for a while where it stood, with its pin; one that ended is not, neither while its instance leaves', async () => {
  const pins = new LogPins();
  const claims = new LogClaims({ paths: { readers, log: () => '/no/c' }, users: new LogUsers(), pins, cutGraceMs: 50, graceMs: 100 });
  const attached: ClaimedStream = { ...stream, attached: { startedAt: '', error: '' } };
  const abandoned: ClaimedStream[] = [];
  claims.onAbandoned((each) => abandoned.push(each));
  const cut = (): string => {
    const claim = claims.claim(attached);
    const cursor = claim.cursorOf({ place });
    claim.release(true);
    return cursor;
  };
  const cursor = cut();
  expect(pins.of('/no/c')).toMatchObject([{ inode: place.inode, offset: place.offset }]);
  const back = claims.resume(cursor);
  expect(back.place).toEqual(place);
  expect(pins.of('/no/c')).toEqual([]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(readdirSync(readers)).toHaveLength(1);
  back.claim.release(false);
  expect(readdirSync(readers)).toEqual([]);

  cut();
  await waitFor(() => readdirSync(readers).length === 0, { what: 'it to be given up' });
  expect(abandoned).toEqual([]);

  claims.claim(attached).release(true);
  expect(pins.of('/no/c')).toEqual([]);
  const ends = claims.claim(attached);
  ends.cursorOf({ place });
  claims.stop();
  ends.release(false);
  expect(readdirSync(readers)).toEqual([]);
  cut();
  await waitFor(() => readdirSync(readers).length === 0, { what: 'it to be given up' });
  expect(abandoned).toEqual([attached]);
});

it('who has been taken over sends no more input, and leaves it to the other', async () => {
  const first = instance();
  const ends: string[] = [];
  const held = (who: string) => ({ close: () => ends.push(`${who} closes`), leave: () => ends.push(`${who} leaves`) });
  const claim = first.claim(stream);
  const cursor = claim.cursorOf({ place });
  const mark = claim.inputMark();
  expect([claim.isNewest(), mark.begin()]).toEqual([true, true]);
  mark.end();
  const next = first.resume(cursor).claim;
  const nextMark = next.inputMark();
  expect([claim.isNewest(), mark.begin(), nextMark.begin()]).toEqual([false, false, true]);
  nextMark.end();
  claim.release(true, held('old'));
  expect(ends).toEqual(['old leaves']);
  // One that comes back before the time is over finds it open.
  next.release(true, held('next'));
  const back = first.resume(cursor).claim;
  expect(ends).toEqual(['old leaves', 'next leaves']);
  back.release(true, held('back'));
  await waitFor(() => ends.includes('back closes'), { what: 'it to be given up' });
  expect(readdirSync(readers)).toEqual([]);
});
