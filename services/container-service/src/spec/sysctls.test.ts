import { expect, it } from 'vitest';
import { ipv6Switches } from './sysctls.ts';

it('tells of a container’s parameters those that take IPv6 away, however they are written', () => {
  const Sysctls = {
    'net/ipv6/conf/all/disable_ipv6': '1',
    'net.ipv6.conf.lo.disable_ipv6': '0',
    'net.ipv6.conf.default.disable_ipv6': '1',
  };
  expect(ipv6Switches({ Sysctls })).toEqual({ 'net.ipv6.conf.all.disable_ipv6': '1', 'net.ipv6.conf.lo.disable_ipv6': '0' });
  expect(ipv6Switches({})).toEqual({});
});
