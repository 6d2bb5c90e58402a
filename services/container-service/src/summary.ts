/**
 * The documents of ContainerList. A container's part is serialised once for each version of its record; only the words that change with
 * the clock are put in when a list is asked for.
 */
import { type ContainerSummary, type EndpointSettings, humanDuration, type Port } from '@flotilla/engine-api';
import { unixSeconds } from './clock.ts';
import type { ContainerRecord } from './container.ts';
import { mountPoint, networkSettings } from './inspect.ts';
import { statusOf } from './statusText.ts';

/** PORTS: published and exposed ones, ordered as the CLI wants them. */
export function summaryPorts(container: ContainerRecord): Port[] {
  const ports: Port[] = [];
  for (const [key, bindings] of Object.entries(networkSettings(container).Ports ?? {})) {
    const [port = '', Type = 'tcp'] = key.split('/');
    const PrivatePort = Number(port);
    if (bindings === null || bindings.length === 0) ports.push({ PrivatePort, Type });
    for (const { HostIp = '', HostPort = '' } of bindings ?? []) {
      ports.push({ ...(HostIp === '' ? {} : { IP: HostIp }), PrivatePort, PublicPort: Number(HostPort), Type });
    }
  }
  return ports;
}

function summaryCommand({ path, args }: ContainerRecord): string {
  return [path, ...args.map((arg) => (arg.includes(' ') ? `'${arg}'` : arg))].join(' ');
}

function summaryNetworks(container: ContainerRecord): Record<string, EndpointSettings> {
  return networkSettings(container).Networks;
}

/** Legacy links show as names too: `/parent/alias`. */
export type LinkNames = (container: ContainerRecord) => readonly string[];

/** What a list says of a container that is not in its record. */
export interface ShownBeside {
  /** the name of its image, or the id when that is no more its name */
  readonly image: string;
  readonly links: readonly string[];
}

function summaryDocument(container: ContainerRecord, { image, links }: ShownBeside): Omit<ContainerSummary, 'Status'> {
  const annotations = container.hostConfig.Annotations;
  return {
    Id: container.id,
    Names: [`/${container.name}`, ...links],
    Image: image,
    ImageID: container.image.id,
    ...(container.image.manifestDescriptor === undefined ? {} : { ImageManifestDescriptor: container.image.manifestDescriptor }),
    Command: summaryCommand(container),
    Created: unixSeconds(container.created),
    Ports: summaryPorts(container),
    Labels: container.config.Labels ?? {},
    State: container.state.status,
    HostConfig: {
      NetworkMode: container.hostConfig.NetworkMode ?? 'bridge',
      ...(annotations === undefined || Object.keys(annotations).length === 0 ? {} : { Annotations: annotations }),
    },
    NetworkSettings: { Networks: summaryNetworks(container) },
    Mounts: container.mounts.map(mountPoint),
  };
}

export interface SummarySize {
  readonly rw: number;
  readonly rootFs: number;
}

export interface SummaryText {
  readonly text: string;
  /** All before it is ASCII. */
  readonly age?: { readonly offset: number; readonly length: number; readonly sinceMs: number };
}

/** Serialised summaries by record. Records are never changed in place, so one that is the same object has the same text. */
export class Summaries {
  private readonly texts = new WeakMap<ContainerRecord, string>();

  /** The JSON text of one container's summary, and where its age stands in it. */
  text(container: ContainerRecord, beside: ShownBeside, size?: SummarySize): SummaryText {
    const { before, sinceMs, after } = statusOf(container);
    const sizes = size === undefined ? '' : `"SizeRw":${size.rw},"SizeRootFs":${size.rootFs},`;
    const start = `{${sizes}"Status":"${before}`;
    const end = `${after}",${this.rest(container, beside)}`;
    if (sinceMs === undefined) return { text: start + end };
    const words = humanDuration(Date.now() - sinceMs);
    return { text: start + words + end, age: { offset: start.length, length: words.length, sinceMs } };
  }

  /** What does not change with the clock, without its opening brace. */
  private rest(container: ContainerRecord, beside: ShownBeside): string {
    // Links belong to another record, and where names have moved to is image-service's: that is not kept.
    if (beside.links.length > 0 || beside.image !== container.image.reference) {
      return JSON.stringify(summaryDocument(container, beside)).slice(1);
    }
    let text = this.texts.get(container);
    if (text === undefined) {
      text = JSON.stringify(summaryDocument(container, beside)).slice(1);
      this.texts.set(container, text);
    }
    return text;
  }
}
