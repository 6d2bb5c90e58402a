/** Between the dispatcher and the routes: how many requests at once, who asks, whether the policy lets them, and what the audit log is told. */
import { Forbidden, Unavailable } from '@flotilla/errors';
import { currentRequest, newRequestId, runWithRequest } from '@flotilla/service-kit';
import { describeIdentity, type PolicySource } from '@flotilla/service-kit/rights';
import type { AuditLog } from '../audit/auditLog.ts';
import { hostRequest } from '../hosts/relay.ts';
import type { Handler } from '../middleware/dispatch.ts';
import { sendError } from '../middleware/errors.ts';
import { callerOf } from './caller.ts';
import { operationOf } from './operations.ts';
import { checkRelayed } from './relayed.ts';

const versionPrefix = /^\/v[0-9][0-9.]*(?=\/)/;

export interface AccessOptions {
  readonly policy: PolicySource | undefined;
  readonly audit: AuditLog | undefined;
  /** Requests under way at once, streams among them; more are told to come back. */
  readonly maxRequests: number;
}

export function guardAccess(application: Handler, { policy, audit, maxRequests }: AccessOptions): Handler {
  let underWay = 0;
  return (request, response) => {
    if (underWay >= maxRequests) {
      response.setHeader('Retry-After', '1');
      sendError(response, new Unavailable(`too many requests at once: ${maxRequests} are under way`));
      return;
    }
    underWay++;
    response.once('close', () => underWay--);
    const identity = callerOf(request.socket);
    const requestId = currentRequest()?.requestId ?? newRequestId();
    const method = request.method ?? '';
    const relayed = hostRequest(request.url ?? '/');
    const path = (relayed?.url.replace(versionPrefix, '') ?? request.url ?? '/').split('?', 1)[0] ?? '';
    const operation = operationOf(method, path);
    if (audit !== undefined) {
      const began = performance.now();
      response.once('close', () =>
        audit.write({
          requestId,
          identity,
          operation: operation?.id ?? 'none',
          method,
          object: operation?.object ?? '',
          ...(relayed === undefined ? {} : { host: relayed.host }),
          status: response.statusCode,
          durationMs: Math.round(performance.now() - began),
        }),
      );
    }
    try {
      const role = policy?.current.roleOf(identity);
      if (operation !== undefined) {
        const allowed = policy?.current.checkOperation(identity, operation.id);
        if (relayed !== undefined && allowed !== undefined) checkRelayed(identity, allowed, operation.id, relayed.host);
      } else if (policy !== undefined && role?.name !== 'admin')
        throw new Forbidden(`access denied: ${describeIdentity(identity)} may only use what the API names`);
    } catch (error) {
      sendError(response, error);
      return;
    }
    runWithRequest({ ...currentRequest(), requestId, identity }, () => application(request, response));
  };
}
