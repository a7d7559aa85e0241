// The layout of the cells that carry operations between JavaScript and native code; src/hsm/cells.ts is its twin.
//
// memory = control area (64 bytes) ‖ small cells ‖ large cells. All integers are 32 bits in the byte order of the
// machine. A cell's first word is generation << 3 | state and moves only by atomic exchange:
//
//   free ─(JavaScript fills it)→ submitted ─(native takes it)→ running ─(native wrote the result)→ done ─→ free
//                                   └─(JavaScript withdraws it)→ free, next generation
//
// From submitted→running until done the cell belongs to native code, whatever became of the request.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xksd::cell {

constexpr uint32_t kFree = 0;
constexpr uint32_t kSubmitted = 1;
constexpr uint32_t kRunning = 2;
constexpr uint32_t kDone = 3;
constexpr uint32_t kStateBits = 3;

constexpr size_t kIvBytesMax = 16;
constexpr size_t kTagBytes = 16;
constexpr size_t kIntegrityBytes = 32;
constexpr size_t kObjectIdBytesMax = 64;
constexpr size_t kWitnessIvBytes = 12;
constexpr size_t kWitnessBytesMax = 64;
constexpr size_t kVariableBytesMax = 64 * 1024;

/** Which key: its CKA_ID and its witness. */
struct KeyBlock {
  uint32_t object_id_bytes;
  /** 0: no witness. */
  uint32_t witness_bytes;
  uint8_t object_id[kObjectIdBytesMax];
  uint8_t witness_iv[kWitnessIvBytes];
  uint8_t witness_tag[kTagBytes];
  uint8_t witness_ciphertext[kWitnessBytesMax];
  uint8_t reserved[28];
};
static_assert(sizeof(KeyBlock) == 192);

/**
 * C_Encrypt calls of one operation at most: a key that is found again is told from another one by an encryption, a failed
 * verification is repeated once (X-E4), and all of that once more in a new session.
 */
constexpr uint32_t kEncryptionsMax = 6;

constexpr uint32_t kOperationEncrypt = 1;
constexpr uint32_t kOperationDecrypt = 2;
/** Only makes sure that the session is open and logged in. */
constexpr uint32_t kOperationProbe = 3;
constexpr uint32_t kFlagVerify = 1;
constexpr uint32_t kFlagIntegrity = 2;
/** A case of a probe: what the token makes of it is given back as it is. The key comes without a witness. */
constexpr uint32_t kFlagTrial = 4;
// The token's profile, with every operation.
constexpr uint32_t kFlagIvSourceShift = 8;
constexpr uint32_t kFlagIvSourceMask = 3;
constexpr uint32_t kFlagWithoutIvBits = 1 << 10;
/** It was probed, and gives no such code for a bad tag. */
constexpr uint32_t kFlagGeneralErrorIsFault = 1 << 12;
constexpr uint32_t kFlagFunctionFailedIsFault = 1 << 13;
constexpr uint32_t kFlagVendorCodeIsFault = 1 << 14;
// How often a decrypt has to be refused before that is the ciphertext's fault (src/hsm/ciphertext-doubt.ts), each of them
// four bits: as often as this where there is time, no less than that; both where the code may mean something else.
constexpr uint32_t kRefusalsWantedShift = 16;
constexpr uint32_t kRefusalsLeastShift = 20;
/** Where the code says that it is the ciphertext; 0: as if it did not say so. */
constexpr uint32_t kRefusalsOwnWordShift = 24;
constexpr uint32_t kRefusalsMask = 15;
// In `Header::refusals`, beside their number.
/**
 * A code that is also the token's word for a bad ciphertext meant nothing: it came where there was no ciphertext, over one
 * that the token itself had just made, or over one that it opened afterwards under the same handle.
 */
constexpr uint32_t kSpurious = 1 << 8;
/** The ciphertext may well be bad, but was not refused as often as it takes to say so: the result is `kFailed`. */
constexpr uint32_t kDoubted = 1 << 9;

enum Result : uint32_t {
  kNoResult = 0,
  kOk = 1,
  kBadCiphertext = 2,
  kTokenUnavailable = 3,
  kKeyLost = 4,
  kFailed = 5,
  /** The IV that the HSM made cannot be fresh, or it replaced ours: nothing of the ciphertext is given back. */
  kUnsafeIv = 6,
};

struct Header {
  uint32_t word;
  uint32_t operation;
  uint32_t flags;
  uint32_t aad_bytes;
  uint32_t prefix_bytes;
  uint32_t data_bytes;
  uint32_t iv_bytes;
  /**
   * Of a decrypt: until when the token may be asked again whether it refuses the ciphertext. CLOCK_MONOTONIC in microseconds,
   * the low 32 bits: at most half of their range away.
   */
  uint32_t ask_until_micros;

  // Written by native code before `done`.
  uint32_t result;
  uint32_t rv;
  /** Index into kFunctionNames, 0 for none. */
  uint32_t function;
  /** 1: the login is gone (RvClass::kLoginLost). */
  uint32_t login_lost;
  uint32_t micros;
  uint32_t round_trips;
  /** C_Encrypt calls that were begun under `key`, whatever came of them: each may have used up an IV. */
  uint32_t encryptions;
  /** Of a decrypt: how often the token has refused the ciphertext, and kDoubted. And kSpurious, of any operation. */
  uint32_t refusals;

  KeyBlock key;
  /** The pool's canary key; object_id_bytes 0 for none. */
  KeyBlock canary;

  uint8_t iv[kIvBytesMax];
  uint8_t tag[kTagBytes];
  uint8_t integrity[kIntegrityBytes];
};
static_assert(sizeof(Header) == 512);
// Then: aad ‖ integrity prefix ‖ data, each as long as the header says. The result takes the place of the data.

struct Control {
  /** Counts logins: a session and every handle found in it are good for one value only. */
  uint32_t login_epoch;
  uint32_t small_cells;
  uint32_t small_cell_bytes;
  uint32_t large_cells;
  uint32_t large_cell_bytes;
  uint32_t reserved[11];
};
static_assert(sizeof(Control) == 64);

}  // namespace xksd::cell
