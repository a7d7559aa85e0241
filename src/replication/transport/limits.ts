/**
 * Limits of the transport. The loop above bounds what it has under way for each member well below these; they are there
 * for the day it does not.
 */

/** Of one encoded message, and what gRPC is told to receive: its own default. */
export const messageBytesMax = 4 * 1024 * 1024;
/** Encoded messages waiting for one peer. The newest is dropped when one more comes. */
export const outboundMessagesMax = 1_024;
export const outboundBytesMax = 16 * 1024 * 1024;
/** Of them, handed to gRPC and not yet taken by the connection's flow control. */
export const writingMessagesMax = 8;

/** JSON of a call's question, and of its answer, in UTF-8. */
export const callJsonBytesMax = 1024 * 1024;
/** Calls under way, to one peer and from all peers. */
export const outboundCallsMax = 64;
export const inboundCallsMax = 64;
/** For a call or join that names no shorter one. */
export const callDeadlineMsMax = 60_000;

/** Incoming TCP connections, those that have not shown a certificate yet included. */
export const inboundConnectionsMax = 128;
/** Of them, with one certificate: a node uses two while it renews one, a few that end, and one for each question. */
export const connectionsPerCertificateMax = 16;
/** Streams of one connection: a peer uses one, and one for each call. */
export const inboundStreamsMax = outboundCallsMax + 8;
/** PING and SETTINGS frames of one connection within a while: a peer sends one PING a second, and its settings once. */
export const controlFramesMax = 64;
export const controlFramesWindowMs = 10_000;
/** For the peer to close its side of a connection that we have ended. */
export const closingMsMax = 2_000;
/** For incoming connections: until the TLS handshake is done. */
export const handshakeTimeoutMs = 5_000;

/**
 * For outgoing connections: TCP, TLS and HTTP/2 settings together. gRPC has no such limit: an attempt would wait for the
 * kernel's retransmissions, which back off to a minute, long after the partition that swallowed them has healed.
 */
export const connectTimeoutMs = 2_000;
/** Attempts to connect, and connections, that one channel has a hold of: it makes one at a time. */
export const attemptsPerChannelMax = 8;
/** gRPC's own back-off would grow to two minutes. */
export const reconnectMsMin = 100;
export const reconnectMsMax = 1_000;
/**
 * A stream that lives for so long is one that the peer listens to: a member sends a report each second, and is refused on
 * its first message if at all.
 */
export const acceptedMsMin = 2_500;
/** A ping this long after the last, lost when unanswered for as long again: a silent peer is noticed within both. */
export const keepaliveMs = 1_000;
export const keepaliveTimeoutMs = 1_000;
/** The accepting side's, which only frees what the connecting side has given up. */
export const inboundKeepaliveMs = 5_000;
/** Bounds how long a connection outlives the certificates that it was made with. */
export const connectionAgeMsMax = 60 * 60 * 1_000;
export const connectionAgeGraceMs = 2_000;
/** Between looks at the certificate files. */
export const certificatePollMs = 5_000;

/**
 * How long a connection whose peer's certificate is no longer trusted may go on after a reload. The files of all nodes
 * may change at once, and each looks at its own every `certificatePollMs`: the peer is to look too, and dial anew.
 */
export const untrustedGraceMs = 2 * certificatePollMs;
/** Between attempts at a new connection while the old one is used. */
export const renewalRetryMs = 500;
/** Of such attempts without success: something is wrong, not only slower than here. */
export const renewalTroubleMs = certificatePollMs + connectTimeoutMs;
/** For what was written into a stream that has a successor. */
export const drainMsMax = 2_000;
/** Channels of one peer that have a successor, and end their streams and calls. */
export const retiredChannelsMax = 4;
/** Of one chain that a peer shows; certificates beyond are not looked at when it is verified again. */
export const shownCertificatesMax = 8;
