import type { Management } from './management.js';
import type { DiscoveredToken } from './management-protocol.js';
import type { Pin } from './pin.js';
import { type LoginRecord, type PinRefusals, tokenIdentity } from './pin-refusals.js';

export type LoginOutcome =
  | { readonly kind: 'logged-in' }
  /** This PIN is not tried again before an operator says so. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** Not tried, or without a verdict: may go better later. */
  | { readonly kind: 'failed'; readonly reason: string };

/** More refused PINs than any token survives: somebody is guessing, or the record is. */
const refusedPinsMax = 16;
/** Logins without a verdict in a row (the process died in C_Login) before an operator has to look. */
const unfinishedLoginsMax = 3;

/** PKCS#11 §5.6.8: what C_Login says of the PIN itself. */
const refusals: ReadonlyMap<string, string> = new Map([
  ['CKR_PIN_INCORRECT', 'the PIN is wrong'],
  ['CKR_PIN_INVALID', 'the PIN has characters that the token does not take'],
  ['CKR_PIN_LEN_RANGE', 'the PIN is too short or too long for the token'],
  ['CKR_PIN_EXPIRED', 'the PIN has expired'],
  ['CKR_PIN_LOCKED', 'the PIN is locked'],
]);

/**
 * Logs this process in to a token, alone on this host, with a PIN that it has not refused yet.
 *
 * @param forgive an operator asks for another try: forget what the token refused.
 */
export async function loginInOrder(options: {
  readonly management: Pick<Management, 'loginState' | 'login'>;
  readonly token: DiscoveredToken;
  readonly pin: Pin;
  readonly refusals: PinRefusals;
  readonly forgive: boolean;
}): Promise<LoginOutcome> {
  const outcome = await options.refusals.exclusively((record) => loginAlone(options, record));
  return outcome.ok ? outcome.value : failed(`not logging in: ${outcome.error}`);
}

async function loginAlone(
  options: Parameters<typeof loginInOrder>[0],
  record: LoginRecord,
): Promise<LoginOutcome> {
  const { management, token, pin, forgive } = options;
  const identity = tokenIdentity(token);
  if (forgive) {
    const forgotten = await record.forget(identity);
    if (!forgotten.ok) return failed(`not logging in: ${forgotten.error}`);
  }
  const state = await management.loginState(token.slotId);
  if (!state.ok) return failed(state.error.message);
  if (state.value.loggedIn || !state.value.loginRequired) return { kind: 'logged-in' };
  if (!state.value.pinInitialised) {
    return failed('the token has no user PIN yet; set one, e.g. with pkcs11-tool --init-pin');
  }
  if (state.value.locked) return failed('the token has locked its user PIN; unlock it with the HSM’s tools');
  if (state.value.finalTry) {
    return failed(
      'one more wrong PIN would lock the token (CKF_USER_PIN_FINAL_TRY), so none is tried; ' +
        'log in once with the right PIN by another tool, e.g. pkcs11-tool --login, which clears the count',
    );
  }

  if (record.refusalsOf(identity) >= refusedPinsMax) {
    return refused(`the token refused ${refusedPinsMax} different PINs; no other is tried`);
  }
  const earlier = await record.refusalOf(identity, pin);
  if (earlier !== null) {
    return refused(
      `${whyRefused(earlier.rv)}: refused at ${new Date(earlier.atMs).toISOString()}, not tried again`,
    );
  }
  if (record.unfinishedLogins(identity) >= unfinishedLoginsMax) {
    return refused(
      `the last ${unfinishedLoginsMax} logins ended without a verdict (the process ended in C_Login), so none is tried`,
    );
  }

  const begun = await record.begin(identity);
  // A refusal that cannot be remembered would be tried again.
  if (!begun.ok) return failed(`not logging in: ${begun.error}`);
  const login = await management.login(token.slotId, pin);
  if (login.ok) {
    // If this cannot be written, one unfinished login too many is on record, and gone after the next.
    await record.conclude(identity);
    return { kind: 'logged-in' };
  }
  const { rv, message } = login.error;
  if (rv !== null && refusals.has(rv)) {
    const written = await record.refuse(identity, pin, rv);
    return refused(`${whyRefused(rv)}${written.ok ? '' : `; this could not be recorded: ${written.error}`}`);
  }
  // Only an answer from the token is a verdict; a call that has not returned is not.
  if (rv !== null) await record.conclude(identity);
  return failed(message);
}

function whyRefused(rv: string): string {
  return `${refusals.get(rv) ?? 'the token refused the PIN'} (C_Login: ${rv})`;
}

function refused(reason: string): LoginOutcome {
  return { kind: 'refused', reason: `${reason}; correct the PIN, or run: xksctl hsm login` };
}

function failed(reason: string): LoginOutcome {
  return { kind: 'failed', reason };
}
