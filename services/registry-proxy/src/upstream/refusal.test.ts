import { describe, expect, it } from 'vitest';
import { errorItems } from './refusal.ts';

describe('errorItems', () => {
  const cases: [name: string, status: number, text: string, first: object][] = [
    [
      'its own errors',
      404,
      '{"errors":[{"code":"NAME_UNKNOWN","message":"no such name","detail":{"a":1}}]}',
      { code: 'NAME_UNKNOWN', message: 'no such name', detail: { a: 1 } },
    ],
    [
      'the token server of Hub',
      401,
      '{"details":"incorrect username or password"}',
      { code: 'UNAUTHORIZED', message: 'incorrect username or password' },
    ],
    ['no body', 404, '', { code: 'MANIFEST_UNKNOWN', message: 'manifest unknown' }],
    ['a page', 403, '<html>no</html>', { code: 'DENIED', message: 'requested access to the resource is denied' }],
    ['an empty list', 401, '{"errors":[]}', { code: 'UNAUTHORIZED', message: 'authentication required' }],
    ['a code without a message', 429, '{"errors":[{"code":"TOOMANYREQUESTS"}]}', { code: 'TOOMANYREQUESTS', message: 'toomanyrequests' }],
    ['errors of other types', 500, '{"errors":[1,null,{"code":2}]}', { code: 'UNKNOWN' }],
    ['JSON that is no object', 502, '7', { code: 'UNKNOWN', message: 'received unexpected HTTP status: 502: 7' }],
  ];
  it.each(cases)('%s', (_name, status, text, first) => {
    expect(errorItems(status, text, 'MANIFEST_UNKNOWN')[0]).toMatchObject(first);
  });
});
