import { statSync } from 'node:fs';
import t from 'tap';
import { xksctlPath, xksdPath } from '../support/running-node.js';

t.test('the programs may be executed: the installed ones are links to them', async (t) => {
  for (const program of [xksdPath, xksctlPath]) {
    t.equal(statSync(program).mode & 0o111, 0o111, program);
  }
});
