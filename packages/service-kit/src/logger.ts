/** One JSON object a line on stdout: time, level, service, instance, requestId (and traceId where the client has one), message, then ids. */
import { type Logger, pino } from 'pino';
import { currentRequest } from './requestContext.ts';

export type { Logger } from 'pino';

export function createLogger(options: { service: string; instance: string; level?: string }): Logger {
  return pino({
    level: options.level ?? 'info',
    base: { service: options.service, instance: options.instance },
    timestamp: pino.stdTimeFunctions.isoTime,
    messageKey: 'message',
    errorKey: 'error',
    formatters: { level: (label) => ({ level: label }) },
    mixin: () => {
      const request = currentRequest();
      if (request === undefined) return {};
      const traceId = request.traceparent?.split('-')[1];
      return { requestId: request.requestId, ...(traceId === undefined ? {} : { traceId }) };
    },
  });
}
