import { describe, expect, it } from 'vitest';
import { bridgeOptions } from './bridgeOptions.ts';

const prefix = 'com.docker.network.bridge';

describe('the options of a bridge', () => {
  it('are dockerd’s defaults where none is given, and what nobody knows means nothing', () => {
    expect(bridgeOptions({ 'com.example.colour': 'red', [`${prefix}.colour`]: 'red' })).toEqual({
      interContainer: true,
      masquerade: true,
      gatewayMode: { 4: 'nat', 6: 'nat' },
      inhibitIPv4: false,
      trustedHostInterfaces: [],
      hostAddress: {},
      interfacePrefix: 'eth',
    });
  });

  it('are read as Go reads them', () => {
    const options = {
      [`${prefix}.enable_icc`]: 'F',
      [`${prefix}.gateway_mode_ipv6`]: 'nat-unprotected',
      [`${prefix}.trusted_host_interfaces`]: 'vxlan.1::eth3',
      [`${prefix}.host_binding_ipv4`]: '10.1.2.3',
      'com.docker.network.host_ipv6': 'fd00:0::1',
      'com.docker.network.driver.mtu': '0',
      'com.docker.network.container_iface_prefix': 'lan',
    };
    expect(bridgeOptions(options)).toMatchObject({
      interContainer: false,
      gatewayMode: { 4: 'nat', 6: 'nat-unprotected' },
      trustedHostInterfaces: ['vxlan.1', 'eth3'],
      hostBinding: '10.1.2.3',
      hostAddress: { 6: 'fd00::1' },
      interfacePrefix: 'lan',
    });
    expect(bridgeOptions(options).mtu).toBeUndefined();
  });

  it.each([
    [`${prefix}.enable_icc`, 'maybe', 'strconv.ParseBool: parsing "maybe": invalid syntax'],
    [`${prefix}.enable_ip_masquerade`, '', 'strconv.ParseBool: parsing "": invalid syntax'],
    [`${prefix}.inhibit_ipv4`, 'yes', 'strconv.ParseBool: parsing "yes": invalid syntax'],
    [`${prefix}.default_bridge`, 'no', 'strconv.ParseBool: parsing "no": invalid syntax'],
    [`${prefix}.gateway_mode_ipv4`, 'bridged', 'unknown gateway mode bridged'],
    [`${prefix}.gateway_mode_ipv6`, '', 'unknown gateway mode '],
    [`${prefix}.host_binding_ipv4`, 'here', 'nil ip'],
    ['com.docker.network.host_ipv4', '1.2.3', 'nil ip'],
    ['com.docker.network.host_ipv4', 'fd00::1', 'nil ip'],
    ['com.docker.network.driver.mtu', '1e9', 'strconv.Atoi: parsing "1e9": invalid syntax'],
  ])('refuse %s=%s', (name, value, reason) => {
    expect(() => bridgeOptions({ [name]: value })).toThrow(`failed to parse ${name} value: ${value} (${reason})`);
  });

  it.each(['a"b', 'sixteen-letters-', 'eth*', 'eth 0'])('refuse the interface %j of the host', (name) => {
    const options = { [`${prefix}.trusted_host_interfaces`]: `eth0:${name}` };
    expect(() => bridgeOptions(options)).toThrow(`invalid interface name: "${name}"`);
  });

  it('refuse an MTU below nothing', () => {
    expect(() => bridgeOptions({ 'com.docker.network.driver.mtu': '-5' })).toThrow('invalid MTU number: -5');
  });
});
