/** The supervisor's own log: one JSON object a line, in the shape that the services' logs have. */

export type Fields = Readonly<Record<string, unknown>>;

export interface SupervisorLog {
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
}

export function createSupervisorLog(write: (line: string) => void = (line) => process.stdout.write(line)): SupervisorLog {
  const at =
    (level: string) =>
    (message: string, fields: Fields = {}) =>
      write(`${JSON.stringify({ level, time: new Date().toISOString(), service: 'supervisor', message, ...fields })}\n`);
  return { info: at('info'), warn: at('warn'), error: at('error') };
}
