/**
 * `node:http` without its WebSocket client. An `import` of it reads every export, also the ones that Node loads when first asked for: that costs each process
 * 6 MB that no service uses. Types are imported from `node:http` as ever.
 */
export const http: typeof import('node:http') = process.getBuiltinModule('node:http');
