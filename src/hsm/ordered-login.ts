import type { Management } from './management.js';
import type { DiscoveredToken, ManagementResult } from './management-protocol.js';
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
/** Logins without a verdict (the process died in C_Login) before an operator has to look. */
const unfinishedLoginsMax = 3;

/** How often a late verdict waits for its turn to be recorded, while others log in. */
const lateTriesMax = 4;

/** PKCS#11 §5.6.8: what C_Login says of the PIN itself. */
const refusals: ReadonlyMap<string, string> = new Map([
  ['CKR_PIN_INCORRECT', 'the PIN is wrong'],
  ['CKR_PIN_INVALID', 'the PIN has characters that the token does not take'],
  ['CKR_PIN_LEN_RANGE', 'the PIN is too short or too long for the token'],
  ['CKR_PIN_EXPIRED', 'the PIN has expired'],
]);

const lockedReason = 'the token has locked its user PIN; unlock it with the HSM’s tools';

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
  if (state.value.loggedIn) {
    // By a login that took longer than anybody waited for it.
    const { running, ended } = record.unfinishedLogins(identity);
    if (running + ended > 0) await record.conclude(identity);
    return { kind: 'logged-in' };
  }
  if (!state.value.loginRequired) return { kind: 'logged-in' };
  if (!state.value.pinInitialised) {
    return failed('the token has no user PIN yet; set one, e.g. with pkcs11-tool --init-pin');
  }
  if (state.value.locked) return failed(lockedReason);
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
  const { running, ended } = record.unfinishedLogins(identity);
  if (ended >= unfinishedLoginsMax) {
    return refused(
      `${ended} logins ended without a verdict (the process ended in C_Login), so none is tried`,
    );
  }
  // Each of these may yet turn out to be a wrong PIN.
  if (running + ended >= unfinishedLoginsMax) {
    return failed(
      `${running} logins of this host’s processes have not returned from C_Login: waiting for them`,
    );
  }

  const begun = await record.begin(identity);
  // A refusal that cannot be remembered would be tried again.
  if (!begun.ok) return failed(`not logging in: ${begun.error}`);
  const login = await management.login(token.slotId, pin, (late) => {
    void recordLate(options.refusals, identity, pin, late);
  });
  return recordVerdict(record, identity, pin, login);
}

/** Nobody waits for it any more; that the token has judged the PIN must be known all the same. */
async function recordLate(
  refusals: PinRefusals,
  identity: string,
  pin: Pin,
  late: ManagementResult<null>,
): Promise<void> {
  for (let tries = 0; tries < lateTriesMax; tries += 1) {
    const outcome = await refusals.exclusively((record) => recordVerdict(record, identity, pin, late));
    if (outcome.ok) return;
  }
}

async function recordVerdict(
  record: LoginRecord,
  identity: string,
  pin: Pin,
  login: ManagementResult<null>,
): Promise<LoginOutcome> {
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
  // A call that has not returned may have tried the PIN.
  if (rv !== null) await record.withdraw(identity);
  // Not of this PIN: it may be the right one.
  return failed(rv === 'CKR_PIN_LOCKED' ? lockedReason : message);
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
