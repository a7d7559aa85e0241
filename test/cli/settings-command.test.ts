import t from 'tap';
import { CommandFailure } from '../../src/cli/command-failure.js';
import { parseAssignments } from '../../src/cli/settings-command.js';

t.test('settings as they are typed', async (t) => {
  t.strictSame(parseAssignments(['tick-ms=40', 'freshness-interval-ms=250']), {
    tickMs: 40,
    freshnessIntervalMs: 250,
  });
  t.strictSame(parseAssignments(['serve-stale-max-ms=3600000']), { serveStaleMaxMs: 3_600_000 });
});

for (const bad of [
  ['election-ticks'],
  ['election-ticks='],
  ['election-ticks=x'],
  ['election-ticks=-1'],
  ['electionTicks=8'],
  ['elections=3'],
  ['constructor=3'],
  ['tick-ms=40', 'tick-ms=50'],
]) {
  t.test(`no settings: ${bad.join(' ')}`, async (t) => {
    t.throws(() => parseAssignments(bad), CommandFailure);
  });
}
