import { Event } from '@flotilla/contracts/flotilla/events/v1/event';
import { describe, expect, it } from 'vitest';
import { parseFilters } from '../http/filters.ts';
import { matches } from './filter.ts';
import { eventMessage } from './message.ts';

const container = Event.fromPartial({
  type: 'container',
  action: 'exec_create: sh -c ls',
  actorId: 'abcdef',
  attributes: { name: 'web', image: 'registry:5000/nginx:1.27', team: 'a' },
  timeNano: 1_700_000_000_123_456_789n,
});
const image = Event.fromPartial({ type: 'image', action: 'pull', actorId: 'nginx:latest', attributes: { name: 'nginx' } });

describe('event filters', () => {
  it.each([
    [container, '{}', true],
    [container, '{"type":["container"]}', true],
    [container, '{"type":["volume"]}', false],
    [container, '{"event":["exec_create"]}', true],
    [container, '{"event":["exec_create: sh -c ls"]}', true],
    [container, '{"event":["exec_start"]}', false],
    [container, '{"container":["web"]}', true],
    [container, '{"container":["abc"]}', true],
    [container, '{"container":["x","web"]}', true],
    [container, '{"container":["nope"]}', false],
    [container, '{"image":["registry:5000/nginx"]}', true],
    [container, '{"image":["registry:5000/nginx:1.27"]}', true],
    [container, '{"image":["nginx"]}', false],
    [container, '{"label":["team"]}', true],
    [container, '{"label":["team=a","image"]}', true],
    [container, '{"label":["team=b"]}', false],
    [container, '{"label":["toString"]}', false],
    [container, '{"scope":["swarm"]}', false],
    [container, '{"scope":["local"]}', true],
    [container, '{"network":["n"]}', false],
    [image, '{"image":["nginx"]}', true],
    [image, '{"image":["nginx:latest"]}', true],
    [image, '{"event":["pull","tag"],"type":["image"]}', true],
    [image, '{"event":["tag"]}', false],
  ])('%#: %s', (event, filters, expected) => {
    expect(matches(parseFilters(filters), event)).toBe(expected);
  });

  it('writes times exactly, and the older fields for containers and images alone', () => {
    expect(JSON.stringify(eventMessage(container))).toContain('"time":1700000000,"timeNano":1700000000123456789}');
    expect(eventMessage(container)).toMatchObject({ status: 'exec_create: sh -c ls', id: 'abcdef', from: 'registry:5000/nginx:1.27' });
    expect(eventMessage(image)).toMatchObject({ status: 'pull', id: 'nginx:latest' });
    expect(eventMessage(Event.fromPartial({ type: 'network', action: 'create', actorId: 'n' }))).not.toHaveProperty('status');
    const prune = eventMessage(Event.fromPartial({ type: 'container', action: 'prune' }));
    expect(prune).toMatchObject({ status: 'prune', Actor: { ID: '' } });
    expect(prune).not.toHaveProperty('id');
  });
});
