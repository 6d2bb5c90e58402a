/** One JSON object a line on stdout: time, level, service, instance, requestId, message, then ids. */
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
      return request === undefined ? {} : { requestId: request.requestId };
    },
  });
}
