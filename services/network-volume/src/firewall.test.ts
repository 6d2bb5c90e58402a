import { expect, it } from 'vitest';
import { type PortForward, portElementCount, portElements } from './firewall.ts';

const forward = (containerPort: number, more: Partial<PortForward> = {}): PortForward => ({
  family: 4,
  protocol: 'tcp',
  hostPort: containerPort + 10_000,
  containerAddress: '172.17.0.2',
  containerPort,
  opened: false,
  ...more,
});

it('a thousand ports are one command for each set they are in', () => {
  const ports = Array.from({ length: 1_000 }, (_, index) => forward(index + 1));
  for (const verb of ['add', 'delete'] as const) {
    const commands = portElements('flotilla', verb, [...ports, forward(80, { hostAddress: '127.0.0.1' })]);
    expect(commands.map((command) => command.slice(0, command.indexOf('{')))).toEqual([
      `${verb} element inet flotilla published4_any `,
      `${verb} element inet flotilla published4 `,
    ]);
  }
  expect(portElementCount(ports)).toBe(1_000);
});

it('a port that two host ports lead to is opened once', () => {
  const ports = [forward(80, { opened: true }), forward(80, { hostPort: 8080, opened: true })];
  expect(portElements('flotilla', 'delete', ports)).toEqual([
    'delete element inet flotilla opened4 { 172.17.0.2 . tcp . 80 }',
    'delete element inet flotilla published4_any { tcp . 10080, tcp . 8080 }',
  ]);
  expect(portElementCount(ports)).toBe(3);
});
