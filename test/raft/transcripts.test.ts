import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { runTranscript } from '../support/raft-transcript.js';

/**
 * The transcripts tell what the core does, message by message; test/support/raft-transcript.ts says how to read them.
 * `UPDATE_TRANSCRIPTS=1` rewrites them to what the code does now: look at the difference before committing it.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const folder = join(root, 'test/raft/transcripts');
const update = process.env['UPDATE_TRANSCRIPTS'] === '1';

const names = readdirSync(folder).filter((name) => name.endsWith('.txt'));

t.test('there are transcripts', async (t) => {
  t.ok(names.length >= 15, `${names.length}`);
});

for (const name of names) {
  t.test(name.replace(/\.txt$/, '').replaceAll('-', ' '), async (t) => {
    const path = join(folder, name);
    const text = readFileSync(path, 'utf8');
    const now = runTranscript(text);
    if (update) writeFileSync(path, now);
    t.equal(now, update ? now : text);
  });
}
