import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { xksctlPath, xksdPath } from '../support/running-node.js';

const native = fileURLToPath(new URL('../../../native', import.meta.url));

t.test('the programs may be executed: the installed ones are links to them', async (t) => {
  for (const program of [xksdPath, xksctlPath]) {
    t.equal(statSync(program).mode & 0o111, 0o111, program);
  }
});

/** A checkout with the scripts as they are, and an `npm` and a `node-gyp` that note what they are asked for. */
class Checkout {
  directory: string;
  readonly #home: string;
  readonly #calls: string;

  constructor(t: Test) {
    this.#home = t.testdir();
    this.directory = join(this.#home, 'checkout');
    this.#calls = join(this.#home, 'calls');
    cpSync(native, join(this.directory, 'native'), { recursive: true });
    this.#write('checkout/binding.gyp', '{}');
    this.#write('checkout/package-lock.json', '{}');
    // What `npm ci` brings.
    this.#write('packages/typescript/bin/tsc', '');
    this.#write(
      'packages/node-gyp/bin/node-gyp.js',
      `const { appendFileSync, writeFileSync } = require('node:fs');
       appendFileSync(${JSON.stringify(this.#calls)}, 'gyp ' + process.argv[2] + '\\n');
       if (process.argv[2] === 'configure') writeFileSync('build/Makefile', '');`,
    );
    this.#write(
      'bin/npm',
      `#!/bin/sh
       echo "npm $1" >>'${this.#calls}'
       if [ "$1" = ci ]; then mkdir -p node_modules && cp -r '${this.#home}/packages/.' node_modules; fi`,
    );
  }

  #write(name: string, text: string): void {
    const path = join(this.#home, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { mode: 0o755 });
  }

  /** Runs a script, and answers what it called. */
  run(script: 'setup.sh' | 'build.sh'): readonly string[] {
    writeFileSync(this.#calls, '');
    const env = { ...process.env, PATH: `${join(this.#home, 'bin')}:${process.env['PATH'] ?? ''}` };
    const ran = spawnSync('sh', [join(this.directory, 'native', script)], { env, encoding: 'utf8' });
    if (ran.status !== 0) throw new Error(ran.stderr);
    return readFileSync(this.#calls, 'utf8').trim().split('\n');
  }
}

const built = ['gyp configure', 'gyp build'];

t.test('setup installs what a build needs, after a prune as well, and nothing twice', async (t) => {
  const checkout = new Checkout(t);
  t.same(checkout.run('setup.sh'), ['npm ci', ...built, 'npm run']);
  t.same(checkout.run('setup.sh'), ['gyp build', 'npm run'], 'as locked already');
  for (const pruned of ['typescript', 'node-gyp']) {
    // The stamp of the lock file that was installed survives `npm prune --omit=dev`.
    rmSync(join(checkout.directory, 'node_modules', pruned), { recursive: true });
    t.same(checkout.run('setup.sh'), ['npm ci', 'gyp build', 'npm run'], pruned);
  }
  appendFileSync(join(checkout.directory, 'package-lock.json'), ' ');
  t.same(checkout.run('setup.sh'), ['npm ci', 'gyp build', 'npm run'], 'another lock file');
});

t.test('a build is configured anew where its paths are others', async (t) => {
  const checkout = new Checkout(t);
  checkout.run('setup.sh');
  t.same(checkout.run('build.sh'), ['gyp build']);
  const moved = `${checkout.directory}-moved`;
  renameSync(checkout.directory, moved);
  checkout.directory = moved;
  t.same(checkout.run('build.sh'), built);
  t.same(checkout.run('build.sh'), ['gyp build']);
});
