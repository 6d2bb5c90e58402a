/** `GET /events`. */

import { InvalidParameter } from '@flotilla/errors';
import type { Router } from 'express';
import { matches } from '../events/filter.ts';
import type { Events } from '../events/follow.ts';
import { eventMessage } from '../events/message.ts';
import { olderThan } from '../http/apiVersion.ts';
import { filtersOf } from '../http/filters.ts';
import { text } from '../http/query.ts';
import { clientGone } from '../http/respond.ts';
import { parseTimestamp } from '../http/timestamps.ts';
import { drained } from '../streams/transfer.ts';

export function eventRoutes(router: Router, events: Events): void {
  router.get(/^\/events$/, async (request, response) => {
    const until = parseTimestamp(text(request, 'until'));
    // Who names an end alone sees all that is kept up to it.
    const since = parseTimestamp(text(request, 'since')) ?? (until === undefined ? undefined : 0n);
    if (since !== undefined && until !== undefined && until < since) {
      throw new InvalidParameter(`\`since\` time (${text(request, 'since')}) cannot be after \`until\` time (${text(request, 'until')})`);
    }
    const filters = filtersOf(request);
    // Creation of images was not told before 1.46.
    const before146 = olderThan(request, '1.46');
    const signal = clientGone(response);
    const following = await events.follow({
      signal,
      ...(since === undefined ? {} : { since }),
      ...(until === undefined ? {} : { until }),
    });
    // Whoever has seen these headers sees what happens next.
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.flushHeaders();
    response.socket?.setNoDelay(true);
    for await (const event of following) {
      if (!matches(filters, event) || (before146 && event.type === 'image' && event.action === 'create')) continue;
      if (!response.write(`${JSON.stringify(eventMessage(event))}\n`)) await drained(response);
    }
    response.end();
  });
}
