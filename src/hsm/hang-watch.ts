/** What of a token has not come back. */
export interface Hang {
  /** C_Login apart from the rest: to end the process in it is to give up its verdict, which counts (`PinRefusals`). */
  readonly kind: 'call' | 'login';
  /** For people. */
  readonly what: string;
}

/** A token out of use for so long by a call that has not returned: only another process can help. */
export const hangMsMax = 10_000;
export const loginHangMsMax = 300_000;

/** Tells a hang that passes from one that does not. Pure: it is told what hangs, and when. */
export class HangWatch {
  #kind: Hang['kind'] | null = null;
  #sinceMs = 0;

  /** @returns why this process cannot recover by itself; `null` while it may. */
  observe(hang: Hang | null, nowMs: number): string | null {
    if (hang?.kind !== this.#kind) this.#sinceMs = nowMs;
    this.#kind = hang?.kind ?? null;
    if (hang === null) return null;
    const limitMs = hang.kind === 'login' ? loginHangMsMax : hangMsMax;
    return nowMs - this.#sinceMs >= limitMs ? `${hang.what} for over ${limitMs / 1_000} s` : null;
  }
}
