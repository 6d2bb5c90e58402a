/** What every reader of tars here has in common: the fields of a header, sparse files, and what is said of entries that cannot be. */
export { blockBytes, cString, parseNumber, TarError } from './field.ts';
export { entryRefusal } from './refusal.ts';
export { SparseContent, type SparseFile, SparseMapReader, sparseFromText } from './sparse.ts';
