import t from 'tap';
import { makePartialKeys } from '../../src/demo/partial-keys.js';

t.test('a module that is not there: which, why, and which option names it', async (t) => {
  const access = { modulePath: '/none.so', initArgs: '', tokenLabel: 'xks', pin: '1234' };
  t.throws(() => makePartialKeys(access, []), {
    message: /could not be loaded: \/none\.so: .*No such file or directory; --module names it$/,
  });
});
