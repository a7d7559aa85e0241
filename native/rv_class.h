// What a return value means: the one table behind truthful errors (X-X2).
#pragma once

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

/** Pure. `operation` is the call that returned `rv`: the data codes mean nothing about a ciphertext in an encrypt. */
RvClass ClassifyRv(CK_RV rv, Operation operation);

/** As src/base/native.ts spells the class. */
const char* RvClassName(RvClass rv_class);

/** `CKR_…`; an unknown one as `CKR_0x…`, a vendor's own as `CKR_VENDOR_DEFINED+0x…`. */
std::string RvName(CK_RV rv);

}  // namespace xksd
