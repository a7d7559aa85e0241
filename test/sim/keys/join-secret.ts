import { createHash } from 'node:crypto';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** In the join token of a simulated member: 64 hexadecimal digits. */
export const joinSecret = (member: string): string => sha256(Buffer.from(`secret of ${member}`, 'latin1'));

/** What key state has of it. */
export const joinDigest = (member: string): string => sha256(Buffer.from(joinSecret(member), 'hex'));
