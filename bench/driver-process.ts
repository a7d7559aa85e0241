import { errorText } from '../src/base/guards.js';
import { Driver } from './driver/driver.js';
import type { DriverCommand, DriverReport } from './driver/protocol.js';

/** A driver in a process of its own: one report for each command. Ends with its parent. */
let driver: Driver | null = null;

async function carryOut(command: DriverCommand): Promise<DriverReport> {
  if (command.kind === 'prepare') {
    driver?.close();
    const prepared = await Driver.prepare(command.plan);
    driver = prepared.driver;
    return { kind: 'prepared', signedRequests: prepared.signed, signingMicros: prepared.signingMicros };
  }
  if (driver === null) throw new Error('not prepared');
  return command.kind === 'run'
    ? { kind: 'loaded', load: await driver.run(command.shape) }
    : { kind: 'verified', verification: await driver.verify() };
}

process.on('message', (command: DriverCommand) => {
  carryOut(command)
    .catch((thrown: unknown): DriverReport => ({ kind: 'failed', message: errorText(thrown) }))
    .then((report) => process.send?.(report));
});
process.once('disconnect', () => process.exit(0));
