import type { Token, TokenStatus } from '../../src/hsm/token.js';

/** The first status that is as wanted, now or later. */
export function until(token: Token, wanted: (status: TokenStatus) => boolean): Promise<TokenStatus> {
  return new Promise((resolve) => {
    const look = (status: TokenStatus): void => {
      if (!wanted(status)) return;
      end();
      resolve(status);
    };
    const end = token.onChange(look);
    look(token.status());
  });
}
