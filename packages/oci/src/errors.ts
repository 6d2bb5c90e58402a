/**
 * What this package throws. It imports nothing of ours, so its errors carry the brand and kind that @flotilla/errors reads: a malformed
 * reference is the caller's mistake, malformed content is corrupt data.
 */
const brand = Symbol.for('flotilla.error');

/** A reference, digest or platform that cannot be right; the message is dockerd's. */
export class InvalidName extends Error {
  readonly kind = 'InvalidParameter';
  readonly [brand] = true;
  override readonly name = 'InvalidName';
}

/** A manifest, index or config that does not follow its specification or passes a limit. */
export class InvalidContent extends Error {
  readonly kind = 'DataLoss';
  readonly [brand] = true;
  override readonly name = 'InvalidContent';
}
