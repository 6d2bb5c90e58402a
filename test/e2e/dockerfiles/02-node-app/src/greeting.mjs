export const greeting = 'hello from VERSION\n';
