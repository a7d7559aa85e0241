// What a return value means: the one table behind truthful errors (X-X2).
#pragma once

#include <cstdint>
#include <string>

#include "pkcs11.h"

namespace xksd {

enum class Operation { kEncrypt, kDecrypt };

enum class RvClass {
  kOk,
  /** The module says that the ciphertext is not authentic. */
  kBadCiphertext,
  /** Could be the ciphertext or the token; the canary decides. */
  kAmbiguous,
  /** Find the object again. */
  kHandleStale,
  /** Open the session again. */
  kSessionLost,
  /** The token is ill: open the session again, else it is unavailable. */
  kDevice,
  /** Nobody is logged in, the token is gone, or the module was finalised: the owner of the login must act. */
  kLoginLost,
  /** The module or we are wrong. */
  kFailed,
};

/**
 * Which of the codes that may mean anything a token was seen to give for a bad tag when it was probed; all of them
 * where it was not.
 */
struct BadTagCodes {
  bool general_error = true;
  bool function_failed = true;
  bool vendor_defined = true;

  /** From `cell::Header::flags`. */
  static BadTagCodes FromFlags(uint32_t flags);
};

/**
 * Whether a code of the classes kBadCiphertext and kAmbiguous can be this token's word for a bad ciphertext. Pure. It
 * only takes away from what the table allows: a profile that is wrong makes no ciphertext bad.
 */
bool MayBeBadTag(CK_RV rv, const BadTagCodes& codes);

/** Whether a code says nothing of its cause, so that a failure of any kind may come as it. Pure. */
bool SaysNothing(CK_RV rv);

/** Pure. `operation` is the call that returned `rv`: the data codes mean nothing about a ciphertext in an encrypt. */
RvClass ClassifyRv(CK_RV rv, Operation operation);

/** Whether a decrypt that ended so may have been of a bad ciphertext. Pure. */
bool IsDoubtful(RvClass rv_class);

/** As src/base/native.ts spells the class. */
const char* RvClassName(RvClass rv_class);

/** `CKR_…`; an unknown one as `CKR_0x…`, a vendor's own as `CKR_VENDOR_DEFINED+0x…`. */
std::string RvName(CK_RV rv);

}  // namespace xksd
