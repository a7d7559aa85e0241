import type { NativeBinding } from '../base/native.js';

/** PKCS#11 calls of one function. */
export interface FunctionCalls {
  /** `C_…`. */
  readonly functionName: string;
  /** Calls by how long they took: one for each bound of `CallCounts`, and those beyond all of them. */
  readonly byDuration: readonly number[];
  readonly seconds: number;
}

/** What a token's sessions for cryptography have done since the process started. */
export interface CallCounts {
  /** Upper bounds of durations, seconds, ascending. */
  readonly boundsSeconds: readonly number[];
  readonly functions: readonly FunctionCalls[];
  /** Encrypts, decrypts and probes, successful or not. */
  readonly operations: number;
  /** PKCS#11 calls that those took, prefetched randomness and finds included. */
  readonly roundTrips: number;
  /** Operations tried again in a new session, or with the key found anew. */
  readonly repeats: number;
}

export const noCalls: CallCounts = {
  boundsSeconds: [],
  functions: [],
  operations: 0,
  roundTrips: 0,
  repeats: 0,
};

type Names = Pick<NativeBinding, 'pkcs11CallBoundsMicros' | 'pkcs11FunctionName'>;

/** Numbers that `Pkcs11OperationQueue.readCalls` gives for each function: by duration, beyond, nanoseconds. */
const numbersPerFunction = (native: Names): number => native.pkcs11CallBoundsMicros.length + 2;

/** An array for `Pkcs11OperationQueue.readCalls`. */
export function callNumbers(native: Names): Float64Array {
  let functions = 1;
  while (native.pkcs11FunctionName(functions) !== null) functions++;
  return new Float64Array(functions * numbersPerFunction(native) + 1);
}

/** @param numbers as `readCalls` filled them. Functions that were never called are left out. */
export function callCounts(
  native: Names,
  numbers: Float64Array,
  counted: Pick<CallCounts, 'operations' | 'roundTrips'>,
): CallCounts {
  const width = numbersPerFunction(native);
  const functions: FunctionCalls[] = [];
  for (let index = 1; (index + 1) * width < numbers.length; index++) {
    const row = [...numbers.subarray(index * width, (index + 1) * width)];
    const seconds = (row.pop() ?? 0) / 1e9;
    const functionName = native.pkcs11FunctionName(index);
    if (functionName !== null && row.some((calls) => calls > 0)) {
      functions.push({ functionName, byDuration: row, seconds });
    }
  }
  return {
    boundsSeconds: native.pkcs11CallBoundsMicros.map((micros) => micros / 1e6),
    functions,
    repeats: numbers.at(-1) ?? 0,
    ...counted,
  };
}

/** Both together: a token's sessions are opened anew when its module is. */
export function addCalls(one: CallCounts, other: CallCounts): CallCounts {
  const functions = new Map(one.functions.map((calls) => [calls.functionName, calls]));
  for (const calls of other.functions) {
    const known = functions.get(calls.functionName);
    functions.set(calls.functionName, {
      functionName: calls.functionName,
      byDuration: calls.byDuration.map((count, index) => count + (known?.byDuration[index] ?? 0)),
      seconds: calls.seconds + (known?.seconds ?? 0),
    });
  }
  return {
    boundsSeconds: other.boundsSeconds.length > 0 ? other.boundsSeconds : one.boundsSeconds,
    functions: [...functions.values()],
    operations: one.operations + other.operations,
    roundTrips: one.roundTrips + other.roundTrips,
    repeats: one.repeats + other.repeats,
  };
}
