/** Routes of the builder. */
import { NotImplemented } from '@flotilla/errors';
import type { Router } from 'express';
import { sendEmpty, sendJson } from '../http/respond.ts';

export function buildRoutes(router: Router): void {
  router.post(/^\/build$/, () => {
    throw new NotImplemented('building images is not available in this engine yet; build elsewhere, then pull or load the image');
  });
  router.post(/^\/build\/prune$/, (_request, response) => {
    // There is no build cache, so all of it is pruned.
    sendJson(response, 200, { CachesDeleted: null, SpaceReclaimed: 0 });
  });
  router.post(/^\/build\/cancel$/, (_request, response) => {
    sendEmpty(response, 200);
  });
  for (const path of [/^\/session$/, /^\/grpc$/]) {
    router.post(path, () => {
      throw new NotImplemented('BuildKit is not available in this engine');
    });
  }
}
