/** What every reader of tars here has in common: the fields of a header, and sparse files. */
export { blockBytes, cString, parseNumber, TarError } from './field.ts';
export { SparseContent, type SparseFile, SparseMapReader, sparseFromText } from './sparse.ts';
