import { loadRelease } from './edited-copy.js';
import { nextFormat, nextFormatEdits } from './next-format.js';
import type { Release } from './release.js';
import type { SourceEdit } from './source-edit.js';

export const annotateType = 'key.annotate';

/**
 * The release after this one, as far as a simulation needs one: it knows one more command, `key.annotate`, which puts a
 * note on a key, and one more field in the records of keys, both of the next format. It is this release with what such a
 * change would be in its source.
 */
export const nextReleaseEdits: readonly SourceEdit[] = [
  ...nextFormatEdits,
  {
    file: 'keystate/command-format',
    find: 'return secondFormatTypes.has(command.type) ? 2 : 1;',
    replace: `if (command.type === '${annotateType}') return ${nextFormat};
    return secondFormatTypes.has(command.type) ? 2 : 1;`,
  },
  {
    file: 'keystate/command-codec',
    find: "'key.disable': commandField(",
    replace: `'${annotateType}': commandField('${annotateType}', {
        keyStore: stringField, externalKeyId: stringField, note: stringField,
    }),
    'key.disable': commandField(`,
  },
  {
    file: 'keystate/command-checks',
    find: "case 'key.disable':",
    replace: `case '${annotateType}':
        case 'key.disable':`,
  },
  {
    file: 'keystate/change-digest',
    find: "case 'key.disable':",
    replace: `case '${annotateType}':
        case 'key.disable':`,
  },
  {
    file: 'keystate/key-state',
    find: "case 'key.disable':",
    replace: `case '${annotateType}': {
            const key = tables.key(command.keyStore, command.externalKeyId);
            if (key === null) return { ok: false, error: { code: 'not-found', message: 'there is no such key' } };
            tables.putKey({ ...key, note: command.note });
            return done(key.revision);
        }
        case 'key.disable':`,
  },
  {
    file: 'keystate/object-fields',
    find: 'export const keyField = objectField({',
    replace: `export const keyField = {
    write: ({ note, ...key }) => {
        const text = bareKeyField.write(key);
        return note === undefined ? text : text.slice(0, -1) + ',"note":' + JSON.stringify(note) + '}';
    },
    fromJson: ({ note, ...json }) => {
        const key = bareKeyField.fromJson(json);
        return note === undefined ? key : { ...key, note };
    },
    read: () => undefined,
};
const bareKeyField = objectField({`,
  },
];

export const nextRelease = (): Promise<Release> => loadRelease('next-release', nextReleaseEdits);
