import { describe, expect, it } from 'vitest';
import { applyChanges, defaultsFromJson, mergeDefaults } from './changes.ts';

describe('changes', () => {
  const cases: [change: string, result: object][] = [
    ['CMD ["a", "b"]', { Cmd: ['a', 'b'] }],
    ['cmd echo hi', { Cmd: ['/bin/sh', '-c', 'echo hi'] }],
    ['ENTRYPOINT []', { Entrypoint: [] }],
    ['ENV A=1 B="two words" C=a\\ b', { Env: ['X=y', 'A=1', 'B=two words', 'C=a b'] }],
    ['ENV X all the rest', { Env: ['X=all the rest'] }],
    ['LABEL a=b "c d"=e', { Labels: { a: 'b', 'c d': 'e' } }],
    ['EXPOSE 80 90-91/udp', { ExposedPorts: { '80/tcp': {}, '90/udp': {}, '91/udp': {} } }],
    ['VOLUME /a /b', { Volumes: { '/a': {}, '/b': {} } }],
    ['VOLUME ["/a b"]', { Volumes: { '/a b': {} } }],
    ['WORKDIR sub/../dir', { WorkingDir: '/dir' }],
    ['USER alice', { User: 'alice' }],
    ['STOPSIGNAL SIGINT', { StopSignal: 'SIGINT' }],
    ['ONBUILD RUN x', { OnBuild: ['RUN x'] }],
    ['HEALTHCHECK --interval=5s --retries=3 CMD curl x', { Healthcheck: { Test: ['CMD-SHELL', 'curl x'], Interval: 5e9, Retries: 3 } }],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a Dockerfile's own substitution
    ['ENV B=$X-${Z:-none}', { Env: ['X=y', 'B=y-none'] }],
    ['HEALTHCHECK NONE', { Healthcheck: { Test: ['NONE'] } }],
  ];
  it.each(cases)('%s', (change, result) => {
    expect(applyChanges({ Env: ['X=y'] }, [change])).toEqual({ Env: ['X=y'], ...result });
  });
  it.each([
    ['RUN x', 'run is not a valid change command'],
    ['FROM x', 'from is not a valid change command'],
    ['EXPOSE x', 'Invalid containerPort: x'],
    ['ENV A', 'ENV must have two arguments'],
    ['HEALTHCHECK CMD', 'Missing command after HEALTHCHECK CMD'],
    ['USER', 'USER requires exactly one argument'],
  ])('refuses %s', (change, message) => {
    expect(() => applyChanges({}, [change])).toThrow(message);
  });
  it('takes the command away that was made for another entry point', () => {
    expect(applyChanges({ Cmd: ['old'] }, ['ENTRYPOINT ["new"]'])).toEqual({ Entrypoint: ['new'] });
    expect(applyChanges({ Cmd: ['old'] }, ['CMD ["own"]', 'ENTRYPOINT ["new"]'])).toEqual({ Cmd: ['own'], Entrypoint: ['new'] });
  });
  it('merges a configuration over another', () => {
    const base = { Cmd: ['old'], Env: ['A=1', 'B=2'], Labels: { a: '1' }, User: 'u' };
    expect(mergeDefaults({ Env: ['B=3'], Labels: { b: '2' }, User: '', Cmd: [] }, base)).toEqual({
      Cmd: ['old'],
      Env: ['B=3', 'A=1'],
      Labels: { a: '1', b: '2' },
      User: 'u',
    });
    expect(mergeDefaults({ Entrypoint: ['e'] }, base).Cmd).toBeUndefined();
  });
  it("reads a container's configuration and refuses wrong types", () => {
    expect(defaultsFromJson(Buffer.from('{"Cmd":["a"],"Hostname":"x","Env":null}'))).toEqual({ Cmd: ['a'] });
    expect(defaultsFromJson(Buffer.alloc(0))).toBeUndefined();
    expect(() => defaultsFromJson(Buffer.from('{"Env":"x"}'))).toThrow('config.Env is not an array');
  });
});
