/** Container names: which are allowed, and the ones made up for containers that were given none. */
import { randomInt } from 'node:crypto';
import { InvalidParameter } from '@flotilla/errors';

const allowed = /^\/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

const adjectives =
  'amber autumn bold brave breezy bright brisk calm candid careful cheerful clever coastal cosmic crisp curious daring dauntless eager early earnest easy fair faithful fearless fine fleet fond frank free fresh gallant gentle glad golden graceful grand happy hardy hearty honest humble idle jolly jovial keen kind lively loyal lucid lucky mellow merry mighty mild modest neat nimble noble patient placid plucky proud quick quiet ready restful robust rugged salty serene sharp shiny silent silver simple sincere sleek smart smooth snug sober solid spry stable steady still stout sunny sure swift tame tender tidy tranquil trusty upbeat valiant vigilant vivid warm wise witty zealous zesty'.split(
    ' ',
  );
const surnames =
  'amundsen anning banks barents baret bering blackburn bligh bougainville cabot cartier chichester clark columbus cook cousteau dampier darwin davis diaz drake earhart earle elcano erikson fiennes flinders franklin frobisher gama gilbert hillary hudson humboldt kingsley laperouse lewis livingstone mackenzie magellan maury mawson melville mercator nansen nares nobile parry peary piccard polo ptolemy pytheas raleigh ross sacajawea scott shackleton slocum stanley sturt tasman tharp tristao vancouver verrazzano vespucci wallis weddell wilkes zheng'.split(
    ' ',
  );

/** `adjective_surname`; after the first attempts with a digit, so that a free one is found among many. */
export function makeName(attempt: number): string {
  const pick = (words: readonly string[]): string => words[randomInt(words.length)] ?? 'steady';
  const name = `${pick(adjectives)}_${pick(surnames)}`;
  return attempt < 5 ? name : `${name}${randomInt(10 ** Math.min(attempt - 4, 9))}`;
}

/**
 * The name a client gave, without its slash.
 *
 * @param prefix - what the message begins with
 * @throws InvalidParameter in dockerd's words.
 */
export function parseName(name: string, prefix = ''): string {
  if (!allowed.test(name)) {
    throw new InvalidParameter(`${prefix}Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  }
  return name.startsWith('/') ? name.slice(1) : name;
}

/** What dockerd says when a name is taken. */
export function nameConflict(name: string, holder: string): string {
  return `Conflict. The container name "/${name}" is already in use by container "${holder}". You have to remove (or rename) that container to be able to reuse that name.`;
}
