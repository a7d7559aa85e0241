import { type MicroOrder, microBenchmarks } from './micro/micro-benchmarks.js';

/** Measures the parts, alone in a process, and tells what came of it. Ends with its parent. */
process.once('message', (order: MicroOrder) => {
  microBenchmarks(order).then(
    (results) => process.send?.(results),
    (failure: unknown) => {
      console.error(failure);
      process.exit(1);
    },
  );
});
process.once('disconnect', () => process.exit(0));
