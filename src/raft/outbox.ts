import type { MemberId, Message } from './types.js';

/** Messages that wait for the next Ready. While a disk is slow there may be many; what is beyond is lost, as on a network. */
const outboxMessagesMax = 4096;

type Body<M> = M extends Message ? Omit<M, 'from'> : never;

/** A message without its sender. */
export type MessageBody = Body<Message>;

const none: readonly never[] = [];

export class Outbox {
  readonly #memberId: MemberId;
  #messages: Message[] = [];

  constructor(memberId: MemberId) {
    this.#memberId = memberId;
  }

  get isEmpty(): boolean {
    return this.#messages.length === 0;
  }

  /** False when there is no room: it is lost. */
  send(message: MessageBody): boolean {
    if (this.#messages.length >= outboxMessagesMax) return false;
    this.#messages.push({ ...message, from: this.#memberId });
    return true;
  }

  /**
   * Acknowledgements of a term that is over by now. What they acknowledge may have been cut off again before it was ever
   * stored, yet that term's leader, where it has not heard of its successor, would count them. Lost, as on a network.
   */
  dropAcknowledgements(): void {
    this.#messages = this.#messages.filter(
      (message) => message.kind !== 'appendResponse' || message.rejected,
    );
  }

  take(): readonly Message[] {
    if (this.#messages.length === 0) return none;
    const messages = this.#messages;
    this.#messages = [];
    return messages;
  }
}
