import { hash } from 'node:crypto';

const lanes = 4;
const laneBytes = 4;
const laneModulus = 2 ** 32;

/**
 * Hash of a set that changes one object at a time: the sum, modulo 2^128, of the first 16 bytes of SHA-256 over each
 * object's canonical encoding (replication.md 9). Whatever way led to a set, its hash is the same. Against accidents
 * and bugs, not against somebody who chooses objects so that their sums meet.
 */
export class StateHash {
  /** Least significant first. */
  readonly #sum = new Uint32Array(lanes);

  add(encoded: Uint8Array): void {
    const digest = digestOf(encoded);
    let carry = 0;
    for (let lane = 0; lane < lanes; lane += 1) {
      const sum = (this.#sum[lane] ?? 0) + digest.readUInt32LE(lane * laneBytes) + carry;
      this.#sum[lane] = sum;
      carry = sum >= laneModulus ? 1 : 0;
    }
  }

  remove(encoded: Uint8Array): void {
    const digest = digestOf(encoded);
    let borrow = 0;
    for (let lane = 0; lane < lanes; lane += 1) {
      const difference = (this.#sum[lane] ?? 0) - digest.readUInt32LE(lane * laneBytes) - borrow;
      this.#sum[lane] = difference;
      borrow = difference < 0 ? 1 : 0;
    }
  }

  /** 32 hexadecimal digits; all 0 for the empty set. */
  hex(): string {
    return Array.from(this.#sum, (lane) => lane.toString(16).padStart(2 * laneBytes, '0'))
      .reverse()
      .join('');
  }
}

const digestOf = (encoded: Uint8Array): Buffer => hash('sha256', encoded, 'buffer');
