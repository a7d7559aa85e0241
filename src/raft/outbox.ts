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

  take(): readonly Message[] {
    if (this.#messages.length === 0) return none;
    const messages = this.#messages;
    this.#messages = [];
    return messages;
  }
}
