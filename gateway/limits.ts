/**
 * Every bound of the request path, with its reason. Whatever waits, queues, buffers or repeats in this room is bounded
 * by a number of this file.
 */

/** A request that nobody could decide on is answered within 250 ms; a little of it is for the answer itself. */
export const decisionMs = 230;
/** A hold of a gateway that died comes back after this long; long requests renew it. The protocol's ceiling is 4 min. */
export const holdTtlMs = 60_000;
/** Renewed at 25 s, so that one failed renewal is repeated before the hold expires. */
export const holdRenewAfterMs = 25_000;
/** How often open holds, stalled clients and journal files are looked at; how often kept settles are sent again. */
export const housekeepingEveryMs = 5_000;
export const repeatEveryMs = 500;

/** 20 wrong secrets a minute and address reach a shard; more are answered from memory. */
export const failedGuessesMax = 20;
export const failedGuessesWindowMs = 60_000;
/** Addresses remembered; above it the window starts anew, which is generous, never unbounded. */
export const failedGuessAddressesMax = 50_000;
/** Digests that were accepted lately: they pass even from an address with many failures. Two generations of this. */
export const knownGoodKeysMax = 100_000;

/** Texts of keys whose reading is remembered, in each of two generations. */
export const keysReadMax = 10_000;

/** Counted while streaming; a larger body is refused with 413 and its hold is released. */
export const requestBodyBytesMax = 100 * 1024 * 1024;
export const headerBytesMax = 16 * 1024;
export const headersCountMax = 200;
export const urlBytesMax = 8 * 1024;
/** Slow headers are cut at 10 s. */
export const headersTimeoutMs = 10_000;
/** A body that takes longer than this is cut; what is charged depends on what the upstream has answered by then. */
export const requestTimeoutMs = 300_000;
/** No byte from the client while its body is awaited. */
export const requestIdleMs = 30_000;
export const keepAliveMs = 65_000;
export const connectionsMax = 20_000;
export const requestsPerSocketMax = 100_000;

export const upstreamConnectMs = 3_000;
export const upstreamHeadersMs = 60_000;
/** Silence between two pieces of an upstream's body. */
export const upstreamIdleMs = 120_000;
/** Of one upstream. Streams hold a connection each, so the bound is far above what short requests need. */
export const upstreamConnectionsMax = 4_096;
/** An upstream's 5xx body is read and thrown away up to here, so that its connection can be used again. */
export const discardBytesMax = 64 * 1024;

/** The response is kept up to here while it streams through, to find the report of usage in it. */
export const reportJsonBytesMax = 1024 * 1024;
/** One event of a stream is looked at up to here. */
export const reportEventBytesMax = 256 * 1024;
/** A response with a report and at most this long waits, so that its cost can be said in a header. */
export const chargeInHeaderBytesMax = 64 * 1024;
/** How long the answer waits for the shard's word on the cost; the charge itself does not depend on it. */
export const chargeKnownMs = 100;

/** After a client left a stream in the middle, the report is still awaited: this long, this much, for this many. */
export const drainUpstreamMs = 10_000;
export const drainUpstreamBytesMax = 4 * 1024 * 1024;
export const drainUpstreamsMax = 256;

/**
 * The longest life of one admitted request. Its use belongs to the period in which it was admitted, and a period can be
 * sealed only when nothing of it is open: without a bound a stream could keep an invoice from ever being written.
 */
export const requestLifeMsMax = 15 * 60_000;

/** A client that takes nothing for this long is cut: backpressure holds an upstream connection and credits. */
export const clientStallMs = 60_000;

/** A journal file is closed at this size or age; it is deleted when all of it is committed. Small: it is read at once. */
export const journalFileBytesMax = 2 * 1024 * 1024;
export const journalFileAgeMs = 30_000;
/** Settles in flight while a journal is replayed or kept settles are repeated. */
export const settleRepeatsMax = 64;
/** A settle that the shard refuses (not: cannot be reached) this often is put aside and reported. */
export const settleRefusalsMax = 5;

/** SIGTERM: requests in flight may finish within this, then they are cut and settled. */
export const drainProcessMs = 20_000;
/** Meanwhile connections that have nothing in flight are closed, this often. */
export const closeIdleEveryMs = 50;
/** How long the process then waits for its settles; the journal has them in any case. */
export const settleAtExitMs = 2_000;
