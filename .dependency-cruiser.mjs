/**
 * Who may import whom:
 *
 *   services/*  →  packages/*  →  packages/contracts  ←  (generated from)  proto/
 *   in a service:  main  →  api, adapters  →  domain          the domain imports neither of them
 *
 * Each comment is what the author of a forbidden import reads, so it says where to go instead.
 */
const tests = '\\.test\\.ts$|/test/';

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    {
      name: 'services-are-strangers',
      comment: "A service never imports another's code: call its proto (serviceCalls), or listen to its events. A type that two need belongs in proto/ or packages/.",
      severity: 'error',
      from: { path: '^services/([^/]+)/' },
      to: { path: '^services/', pathNot: '^services/$1/' },
    },
    {
      name: 'packages-know-no-service',
      comment: 'packages/ are below services: pass in what is needed as a value or an interface, or move the shared part into a package.',
      severity: 'error',
      from: { path: '^packages/' },
      to: { path: '^(services|deploy|bench|test)/' },
    },
    {
      name: 'no-circles',
      comment: 'These files import each other in a circle: one of them holds two concepts; move the shared one into a file of its own.',
      severity: 'error',
      from: { pathNot: '^packages/contracts/' },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'errors-and-oci-stand-alone',
      comment: 'packages/errors and packages/oci import nothing of ours, so that everything may import them.',
      severity: 'error',
      from: { path: '^packages/(errors|oci)/', pathNot: tests },
      to: { path: '^(packages|services|deploy)/', pathNot: '^packages/$1/' },
    },
    {
      name: 'packages-by-name',
      comment: "Reaching into another workspace's files: import it by its name (@flotilla/…), and export there what you need.",
      severity: 'error',
      from: { path: '^(packages|services)/([^/]+)/' },
      to: { path: '^packages/', pathNot: '^packages/$2/', dependencyTypesNot: ['aliased-workspace'] },
    },
    {
      name: 'domain-below-edges',
      comment: 'Domain files know no adapter and no transport: declare the interface you need here, let adapters/ implement it and main.ts join them.',
      severity: 'error',
      from: { path: '^services/([^/]+)/src/', pathNot: `^services/[^/]+/src/((main|application)\\.ts$|adapters/|api/|routes/|middleware/)|${tests}` },
      to: { path: '^services/$1/src/(adapters|api|routes)/' },
    },
    {
      name: 'adapters-below-api',
      comment: 'Adapters implement what the domain asks for; they know nothing of who calls it.',
      severity: 'error',
      from: { path: '^services/([^/]+)/src/adapters/', pathNot: tests },
      to: { path: '^services/$1/src/(api|routes)/' },
    },
    {
      name: 'testkit-in-tests-only',
      comment: 'packages/testkit is for tests: what a service needs at work lives in another package.',
      severity: 'error',
      from: { path: '^(packages|services|deploy)/', pathNot: `^packages/testkit/|${tests}` },
      to: { path: '^packages/testkit/' },
    },
    {
      name: 'declared-dependencies',
      comment: "Add the package to this workspace's package.json, with a sentence of why in the commit.",
      severity: 'error',
      from: { path: '^(packages|services|deploy|bench)/', pathNot: tests },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown'] },
    },
    {
      name: 'resolvable',
      comment: 'This import leads nowhere.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^bench/results/' },
    tsPreCompilationDeps: true,
    combinedDependencies: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'types', 'default'], extensions: ['.ts', '.mjs', '.js', '.d.ts'] },
  },
};
