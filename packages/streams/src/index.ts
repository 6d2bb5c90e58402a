export { chunksOf } from './chunks.ts';
export { hasLeft, watchDeparture } from './departure.ts';
export { joinStreams, writeAll } from './join.ts';
export { encodeLine, lastWord, parseLines } from './jsonLines.ts';
export { writeOutput, writeTaken } from './pieces.ts';
export { frame, headerBytes, type StandardStream, StdcopyDemultiplexer, stderr, stdin, stdout, writeHeader } from './stdcopy.ts';
export {
  type Admit,
  type DialOptions,
  dialTicket,
  type GivenConnection,
  type Opened,
  openStanding,
  type ServeStream,
  type TakeConnection,
  type Ticket,
  TicketServer,
} from './ticket.ts';
