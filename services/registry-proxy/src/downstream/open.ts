/** The proxy's side towards its clients, as the settings have it. */
import { InvalidParameter } from '@flotilla/errors';
import type { Logger } from '@flotilla/service-kit';
import type { StandaloneSettings } from '../config.ts';
import { Gate } from './gate.ts';
import { Htpasswd } from './htpasswd.ts';
import { ListenerTls } from './listenerTls.ts';

export interface Downstream {
  /** For the HTTP server. */
  readonly parts: { readonly gate: Gate; readonly tls?: ListenerTls };
  /** Reads passwords and certificates again. */
  reload(): void;
  close(): void;
}

/** @throws InvalidParameter for settings that contradict each other, or files that cannot be used. */
export function openDownstream(settings: StandaloneSettings, logger: Logger): Downstream {
  const certificate = settings.FLOTILLA_REGISTRY_TLS_CERTIFICATE;
  const key = settings.FLOTILLA_REGISTRY_TLS_KEY;
  const clientAuthority = settings.FLOTILLA_REGISTRY_TLS_CLIENT_CA;
  const htpasswd = settings.FLOTILLA_REGISTRY_HTPASSWD;
  const pushUsers = settings.FLOTILLA_REGISTRY_PUSH_USERS;
  if ((certificate === '') !== (key === '')) throw new InvalidParameter('a certificate of the listener and its key belong together');
  if (clientAuthority !== '' && certificate === '')
    throw new InvalidParameter('client certificates need a listener with a certificate of its own');
  if (pushUsers.length > 0 && htpasswd === '' && clientAuthority === '') {
    throw new InvalidParameter('users who may push need passwords or client certificates by which they are known');
  }
  const passwords = htpasswd === '' ? undefined : new Htpasswd(htpasswd, logger);
  const files = { certificate, key, clientAuthority: clientAuthority === '' ? undefined : clientAuthority };
  const tls = certificate === '' ? undefined : new ListenerTls(files, logger);
  const gate = new Gate({ passwords, certificates: clientAuthority !== '', pushUsers: new Set(pushUsers) });
  return {
    parts: { gate, ...(tls === undefined ? {} : { tls }) },
    reload: () => {
      passwords?.reload();
      tls?.reload();
    },
    close: () => {
      passwords?.close();
      tls?.close();
    },
  };
}
