import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import ts from 'typescript';

/**
 * The structure of `src/` as docs/developing.md draws it: who may import whom, what the pure layers may touch, and
 * that nothing lies about unused. A new layer or a new direction is a decision; it is made here, in the open.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const src = join(root, 'src');

const mayImport: Readonly<Record<string, readonly string[]>> = {
  base: [],
  xks: ['base'],
  sigv4: ['base'],
  raft: ['base'],
  keystate: ['xks', 'base'],
  hsm: ['base'],
  replication: ['raft', 'base'],
  ops: ['base'],
  serving: ['xks', 'sigv4', 'keystate', 'hsm', 'ops', 'base'],
  replica: ['replication', 'keystate', 'ops', 'base'],
  supervisor: ['ops', 'base'],
  cli: ['supervisor', 'replica', 'serving', 'ops', 'base'],
  demo: ['cli', 'xks', 'sigv4', 'ops', 'base'],
};

const pureLayers = ['xks', 'sigv4', 'raft', 'keystate'];
/** What of `base/` reaches the outside world and is therefore closed to the pure layers. */
const impureBase = ['native.ts', 'clock.ts', 'random.ts', 'small-file.ts', 'directory-sync.ts'];
const pureModules = ['node:crypto', 'node:buffer'];
const impureGlobals =
  /\b(Date\.now|new Date\(\)|Math\.random|performance\.now|process\.|setTimeout|setInterval|setImmediate|queueMicrotask|fetch\(|randomBytes|randomFillSync|randomUUID)/;

/** Where execution begins: programs, worker threads (loaded by file name), tests and benchmarks. */
const isRoot = (path: string): boolean =>
  /^src\/cli\/(xksd|xksctl)\.ts$/.test(path) ||
  path === 'src/demo/main.ts' ||
  /-worker\.ts$/.test(path) ||
  path === 'test/run.ts' ||
  path === 'test/sim/main.ts' ||
  path === 'test/chaos/main.ts' ||
  path === 'test/endurance/main.ts' ||
  path === 'test/faults/main.ts' ||
  path.endsWith('.test.ts') ||
  /^bench\/[^/]+\.ts$/.test(path) ||
  /^(test|bench)\/.*-(child|process)\.ts$/.test(path);

interface Import {
  readonly specifier: string;
  /** Path of the imported file from the repository's root, `null` for packages. */
  readonly target: string | null;
  readonly typeOnly: boolean;
  readonly names: readonly string[];
}

interface Module {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
  readonly exports: readonly string[];
}

function namesOf(clause: ts.ImportClause | undefined): readonly string[] {
  const bindings = clause?.namedBindings;
  if (bindings === undefined) return clause?.name === undefined ? [] : ['default'];
  return ts.isNamespaceImport(bindings)
    ? ['*']
    : bindings.elements.map((e) => (e.propertyName ?? e.name).text);
}

function parse(path: string): Module {
  const text = readFileSync(join(root, path), 'utf8');
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true);
  const imports: Import[] = [];
  const exported: string[] = [];
  const add = (specifier: string, typeOnly: boolean, names: readonly string[]): void => {
    const target = specifier.startsWith('.')
      ? relative(root, resolve(root, dirname(path), specifier.replace(/\.js$/, '.ts')))
      : null;
    imports.push({ specifier, target, typeOnly, names });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      add(
        node.moduleSpecifier.text,
        node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword,
        namesOf(node.importClause),
      );
    } else if (
      ts.isExportDeclaration(node) &&
      node.moduleSpecifier !== undefined &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      add(node.moduleSpecifier.text, node.isTypeOnly, ['*']);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [argument] = node.arguments;
      if (argument !== undefined && ts.isStringLiteral(argument)) add(argument.text, false, ['*']);
    } else if (
      ts.isImportTypeNode(node) &&
      ts.isLiteralTypeNode(node.argument) &&
      ts.isStringLiteral(node.argument.literal)
    ) {
      add(node.argument.literal.text, true, ['*']);
    }
    const modifiers = ts.canHaveModifiers(node) ? (ts.getModifiers(node) ?? []) : [];
    if (modifiers.some((m) => m.kind === ts.SyntaxKind.ExportKeyword)) {
      if (ts.isVariableStatement(node)) {
        for (const declaration of node.declarationList.declarations) {
          if (ts.isIdentifier(declaration.name)) exported.push(declaration.name.text);
        }
      } else if (
        (ts.isFunctionDeclaration(node) ||
          ts.isClassDeclaration(node) ||
          ts.isInterfaceDeclaration(node) ||
          ts.isTypeAliasDeclaration(node)) &&
        node.name !== undefined
      ) {
        exported.push(node.name.text);
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return { path, text, imports, exports: exported };
}

const filesUnder = (folder: string): readonly string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(folder, name));

const modules = new Map(
  ['src', 'test', 'bench']
    .flatMap((folder) => filesUnder(folder))
    .map((path) => [path, parse(path)] as const),
);
const layerOf = (path: string): string => relative(src, join(root, path)).split('/')[0] ?? '';
const sources = [...modules.values()].filter((module) => module.path.startsWith('src/'));

t.test('layers import only what the architecture lets them', async (t) => {
  const offences = sources.flatMap((module) => {
    const layer = layerOf(module.path);
    const allowed = mayImport[layer];
    if (allowed === undefined) return [`${module.path} is in no known layer`];
    return module.imports
      .filter(
        ({ target }) => target !== null && layerOf(target) !== layer && !allowed.includes(layerOf(target)),
      )
      .map(({ specifier }) => `${module.path} imports ${specifier}`);
  });
  t.strictSame(offences, []);
  t.ok(sources.length > 50, 'the files were found');
});

t.test('imports resolve to files of ours, and never out of src/', async (t) => {
  const offences = sources.flatMap((module) =>
    module.imports
      .filter(({ target }) => target !== null && (!modules.has(target) || !target.startsWith('src/')))
      .map(({ specifier }) => `${module.path} imports ${specifier}`),
  );
  t.strictSame(offences, []);
});

t.test('pure layers touch neither the outside world, time nor chance', async (t) => {
  const pure = sources.filter((module) => pureLayers.includes(layerOf(module.path)));
  const offences = pure.flatMap((module) => [
    ...module.imports
      .filter(({ target, specifier }) => target === null && !pureModules.includes(specifier))
      .map(({ specifier }) => `${module.path} imports ${specifier}`),
    ...module.imports
      .filter(({ target, typeOnly }) => !typeOnly && impureBase.some((name) => target === `src/base/${name}`))
      .filter(({ target, names }) => !typeNames(target, names))
      .map(({ specifier }) => `${module.path} imports ${specifier}`),
    ...module.text
      .split('\n')
      .filter((line) => !/^\s*(\/?\*|\/\/)/.test(line))
      .filter((line) => impureGlobals.test(line))
      .map((line) => `${module.path}: ${line.trim()}`),
  ]);
  t.strictSame(offences, []);
  t.ok(pure.length > 15, 'the files were found');
});

/** Whether `names` are all types: those of the injected interfaces may be named in pure code. */
function typeNames(target: string | null, names: readonly string[]): boolean {
  const text = target === null ? '' : (modules.get(target)?.text ?? '');
  return names.every((name) => new RegExp(`export (interface|type) ${name}\\b`).test(text));
}

t.test('every file is reached from a program, a worker, a test or a benchmark', async (t) => {
  const reached = new Set<string>();
  const reach = (path: string): void => {
    const module = modules.get(path);
    if (module === undefined || reached.has(path)) return;
    reached.add(path);
    for (const { target } of module.imports) if (target !== null) reach(target);
  };
  for (const path of modules.keys()) if (isRoot(path) && path.startsWith('src/')) reach(path);
  const shipped = new Set(reached);
  for (const path of modules.keys()) if (isRoot(path)) reach(path);
  t.strictSame(
    sources.map(({ path }) => path).filter((path) => !shipped.has(path)),
    [],
    'src/ holds nothing that only tests use',
  );
  t.strictSame(
    [...modules.keys()].filter((path) => !reached.has(path)),
    [],
  );
});

t.test('every export is imported somewhere', async (t) => {
  const used = new Map<string, Set<string>>();
  for (const module of modules.values()) {
    for (const { target, names } of module.imports) {
      if (target === null) continue;
      const names_ = used.get(target) ?? new Set();
      for (const name of names) names_.add(name);
      used.set(target, names_);
    }
  }
  // Worker threads' handlers are called by name.
  const unused = sources
    .filter(({ path }) => !/-worker\.ts$/.test(path))
    .flatMap((module) => {
      const names = used.get(module.path) ?? new Set();
      // An exported type may be there to be read beside the function whose shape it is.
      const isType = (name: string): boolean =>
        new RegExp(`export (interface|type) ${name}\\b`).test(module.text);
      return module.exports
        .filter((name) => !names.has(name) && !names.has('*') && !isType(name))
        .map((name) => `${module.path}: ${name}`);
    });
  t.strictSame(unused, []);
});
