import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';

const unit = readFileSync(fileURLToPath(new URL('../../../systemd/xksd.service', import.meta.url)), 'utf8')
  // The program need not be installed where the tests run.
  .replace('/usr/bin/xksd', '/bin/true');

const verify = (t: Test, text: string) =>
  spawnSync(
    'systemd-analyze',
    ['verify', '--man=no', join(t.testdir({ 'xksd.service': text }), 'xksd.service')],
    {
      encoding: 'utf8',
    },
  );

t.test('systemd-analyze verify finds nothing wrong with the unit', async (t) => {
  const { status, stdout, stderr } = verify(t, unit);
  t.equal(status, 0);
  t.equal(stdout + stderr, '');
  t.match(verify(t, unit.replace('KillMode=', 'KilMode=')).stderr, 'KilMode', 'it would say so if there was');
});

t.test('the unit stops later than the default drain and does not restart in vain', async (t) => {
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
  t.ok(Number(value('TimeoutStopSec')) > 60 + 10 + 10, 'drain, serving and replica stop');
  t.equal(value('RestartPreventExitStatus'), '2');
  t.equal(value('StartLimitIntervalSec'), '0', 'what may pass is tried for as long as it takes');
  t.equal(value('Type'), 'notify');
  t.equal(value('NotifyAccess'), 'main');
});
