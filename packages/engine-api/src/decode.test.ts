import { describe, expect, it } from 'vitest';
import {
  containerCreateRequest,
  containerUpdateRequest,
  decodeContainerCreate,
  decodeDocument,
  execConfig,
  networkConnectRequest,
} from './index.ts';

const decode = (document: unknown): unknown => decodeContainerCreate(JSON.stringify(document));

describe('decoding as Go does', () => {
  it('matches keys without regard to case, and drops what it does not know', () => {
    expect(decode({ image: 'busybox', CMD: ['true'], nonsense: { a: 1 } })).toEqual({ Image: 'busybox', Cmd: ['true'] });
  });

  it('takes null as unset', () => {
    expect(decode({ Image: 'x', Env: null, HostConfig: null, Labels: { a: null, b: 'c' } })).toEqual({ Image: 'x', Labels: { b: 'c' } });
    expect(decode(null)).toBeUndefined();
  });

  it('takes Cmd and Entrypoint as one string', () => {
    expect(decode({ Cmd: 'a b', Entrypoint: ['c'] })).toEqual({ Cmd: ['a b'], Entrypoint: ['c'] });
  });

  it('keeps a null list of port bindings, and keys that JavaScript finds special', () => {
    const text = '{"HostConfig":{"PortBindings":{"80/tcp":null}},"Labels":{"__proto__":"x","constructor":"y"}}';
    const decoded = decodeContainerCreate(text);
    expect(decoded?.HostConfig?.PortBindings).toEqual({ '80/tcp': [] });
    expect(JSON.stringify(decoded?.Labels)).toBe('{"__proto__":"x","constructor":"y"}');
  });

  it('takes the limits that clients of the first versions put beside HostConfig, which counts before them', () => {
    expect(decode({ Image: 'x', Memory: 7, MemorySwap: -1, CpuShares: 8, Cpuset: '0', VolumeDriver: 'local' })).toEqual({
      Image: 'x',
      HostConfig: { Memory: 7, MemorySwap: -1, CpuShares: 8, CpusetCpus: '0', VolumeDriver: 'local' },
    });
    expect(decode({ Memory: 7, CpusetCpus: '1', Cpuset: '0', HostConfig: { Memory: 9, CpuShares: 0 } })).toEqual({
      HostConfig: { Memory: 9, CpuShares: 0, CpusetCpus: '1' },
    });
  });

  it.each([
    [{ Image: 1 }, 'json: cannot unmarshal number into Go struct field CreateRequest.Image of type string'],
    [{ HostConfig: { Memory: 'x' } }, 'json: cannot unmarshal string into Go struct field HostConfig.HostConfig.Memory of type int64'],
    [{ HostConfig: { Memory: 1.5 } }, 'json: cannot unmarshal number 1.5 into Go struct field HostConfig.HostConfig.Memory of type int64'],
    [
      { HostConfig: { BlkioWeight: 70000 } },
      'json: cannot unmarshal number 70000 into Go struct field HostConfig.HostConfig.BlkioWeight of type uint16',
    ],
    [{ Env: 'x' }, 'json: cannot unmarshal string into Go struct field CreateRequest.Env of type []string'],
    [{ Env: [{}] }, 'json: cannot unmarshal object into Go struct field CreateRequest.Env of type string'],
    [{ Cmd: 1 }, 'json: cannot unmarshal number into Go struct field CreateRequest.Cmd of type string'],
    [{ Entrypoint: [1] }, 'json: cannot unmarshal array into Go struct field CreateRequest.Entrypoint of type string'],
    [{ HostConfig: [] }, 'json: cannot unmarshal array into Go struct field CreateRequest.HostConfig of type container.HostConfig'],
    [{ Tty: 'true' }, 'json: cannot unmarshal string into Go struct field CreateRequest.Tty of type bool'],
    [[], 'json: cannot unmarshal array into Go value of type container.CreateRequest'],
    ['x', 'json: cannot unmarshal string into Go value of type container.CreateRequest'],
  ])('refuses %j', (document, message) => {
    expect(() => decode(document)).toThrow(message);
  });

  it.each([
    ['{', 'unexpected EOF'],
    ['', 'EOF'],
    ['{"a" 1}', "invalid character '1' after object key"],
    ['{a}', "invalid character 'a' looking for beginning of object key string"],
    ['nope', "invalid character 'o' in literal null (expecting 'u')"],
    ['{"a":1,}', "invalid character '}' looking for beginning of object key string"],
    ['[1 2]', "invalid character '2' after array element"],
    ['{"a":"\n"}', "invalid character '\\n' in string literal"],
    ['{} {}', 'unexpected content after JSON'],
    ['{"a":01}', "invalid character '1' after object key:value pair"],
    ['['.repeat(200_000), 'exceeded max depth'],
  ])('says what Go says of %s', (text, message) => {
    expect(() => decodeContainerCreate(text)).toThrow(message);
  });

  it('reads the other bodies', () => {
    expect(decodeDocument(containerUpdateRequest, '{"memory":5,"RestartPolicy":{"name":"always"}}')).toEqual({
      Memory: 5,
      RestartPolicy: { Name: 'always' },
    });
    expect(decodeDocument(execConfig, '{"Cmd":["sh"],"ConsoleSize":[1,2]}')).toEqual({ Cmd: ['sh'], ConsoleSize: [1, 2] });
    expect(decodeDocument(networkConnectRequest, '{"EndpointConfig":{"IPAMConfig":{}}}')).toEqual({ EndpointConfig: { IPAMConfig: {} } });
    expect(decodeDocument(containerCreateRequest, '{"NetworkingConfig":{"EndpointsConfig":{"n":null}}}')).toEqual({
      NetworkingConfig: { EndpointsConfig: { n: {} } },
    });
  });
});
