/** Logs: reading conmon's files as the client shall see them, and rotating them. */
export { checkLogConfig, type LogLimits, logDetails, logDrivers, logLimits } from './options.ts';
export { LogPins, type Pin } from './pins.ts';
export { type LogReader, type ReadLogOptions, readLog } from './reader.ts';
export { type RotateOptions, rotateLog } from './rotate.ts';
export { LogRotator, type LogWriter, type RotatedLog } from './rotator.ts';
export { compressedInodes, type LogPlace, type LogPosition, listSegments, logEnd, logStart } from './segments.ts';
