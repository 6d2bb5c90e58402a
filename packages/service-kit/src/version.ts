/** Flotilla's own version, and the versions clients parse. */
import rootPackage from '../../../package.json' with { type: 'json' };

export const version: string = rootPackage.version;

/** The engine version whose behaviour we keep; clients compare numbers in it. */
export const engineVersion = `28.2.2+flotilla.${version}`;

/** The newest and the oldest version of the Engine API that is answered. */
export const apiVersion = '1.50';
export const minApiVersion = '1.24';
