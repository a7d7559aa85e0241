import { err, ok, type Result } from '../base/result.js';
import type { DiscoveredToken } from './management-protocol.js';
import type { TokenSelector } from './pkcs11-uri.js';

/** What a slot holds. */
export type SlotContent =
  | { readonly kind: 'token'; readonly token: DiscoveredToken }
  | { readonly kind: 'uninitialised'; readonly slotId: bigint }
  /** C_GetTokenInfo failed. */
  | { readonly kind: 'unreadable'; readonly slotId: bigint; readonly rv: string };

/** Picks the one token meant, or says what was looked for and what there is. */
export function chooseToken(
  selector: TokenSelector,
  slots: readonly SlotContent[],
  modulePath: string,
): Result<DiscoveredToken, string> {
  const matching = slots.flatMap((slot) =>
    slot.kind === 'token' && matches(selector, slot.token) ? [slot.token] : [],
  );
  const [token, second] = matching;
  const wanted = describeSelector(selector);
  if (token === undefined) {
    const there = slots.length === 0 ? 'it has no token' : `it has ${slots.map(describeSlot).join('; ')}`;
    return err(`no token with ${wanted} in ${modulePath}: ${there}`);
  }
  if (second !== undefined) {
    const found = matching.map((candidate) => describeToken(candidate)).join('; ');
    const cure =
      new Set(matching.map((candidate) => candidate.serial)).size === matching.length
        ? 'add serial=… to the URI'
        : 'relabel one of them';
    return err(`${matching.length} tokens with ${wanted} in ${modulePath}: ${found}; ${cure}`);
  }
  return ok(token);
}

function matches(selector: TokenSelector, token: DiscoveredToken): boolean {
  return (
    (selector.label === null || selector.label === token.label) &&
    (selector.serial === null || selector.serial === token.serial) &&
    (selector.manufacturer === null || selector.manufacturer === token.manufacturer) &&
    (selector.model === null || selector.model === token.model)
  );
}

function describeSelector(selector: TokenSelector): string {
  return (['label', 'serial', 'manufacturer', 'model'] as const)
    .filter((field) => selector[field] !== null)
    .map((field) => `${field} "${selector[field]}"`)
    .join(' and ');
}

function describeToken(token: DiscoveredToken): string {
  return `"${token.label}" (serial ${token.serial}, ${token.manufacturer} ${token.model}, slot ${token.slotId})`;
}

function describeSlot(slot: SlotContent): string {
  switch (slot.kind) {
    case 'token':
      return describeToken(slot.token);
    case 'uninitialised':
      return `an uninitialised token (slot ${slot.slotId})`;
    case 'unreadable':
      return `a token that cannot be read (slot ${slot.slotId}, ${slot.rv})`;
  }
}
