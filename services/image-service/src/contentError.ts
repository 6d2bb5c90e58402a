/** Content that is not what its digest, its size or its format says: the pull or load that brought it fails with these words. */
import { DataLoss } from '@flotilla/errors';

export class LayerContentError extends DataLoss {}
