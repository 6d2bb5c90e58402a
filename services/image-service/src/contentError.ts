/** What is wrong with content, in the words that the pull or load which brought it fails with. */
import { DataLoss, Unavailable } from '@flotilla/errors';

/** Content that is not what its digest, its size or its format says. */
export class LayerContentError extends DataLoss {}

/** A layer that another replica removed between being found here and being registered. */
export class ContentVanished extends Unavailable {}
