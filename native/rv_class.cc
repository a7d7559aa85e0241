#include "rv_class.h"

#include <cstdio>

#include "crypto_cell.h"

namespace xksd {
namespace {

struct Row {
  CK_RV rv;
  const char* name;
  RvClass encrypt;
  RvClass decrypt;
};

constexpr RvClass kOk = RvClass::kOk;
constexpr RvClass kBad = RvClass::kBadCiphertext;
constexpr RvClass kAmb = RvClass::kAmbiguous;
constexpr RvClass kHandle = RvClass::kHandleStale;
constexpr RvClass kSession = RvClass::kSessionLost;
constexpr RvClass kDevice = RvClass::kDevice;
constexpr RvClass kLogin = RvClass::kLoginLost;
constexpr RvClass kFail = RvClass::kFailed;

// PKCS#11 v3.0, pkcs11t.h. In a decrypt, everything by which some module reports a bad tag, IV or length is at best
// ambiguous (SoftHSM 2.6: GENERAL_ERROR, nShield: FUNCTION_FAILED); nothing that a lost session, login or device
// gives is ever about the ciphertext.
constexpr Row kRows[] = {
    {0x000, "CKR_OK", kOk, kOk},
    {0x001, "CKR_CANCEL", kFail, kFail},
    {0x002, "CKR_HOST_MEMORY", kFail, kFail},
    {0x003, "CKR_SLOT_ID_INVALID", kLogin, kLogin},
    {0x005, "CKR_GENERAL_ERROR", kFail, kAmb},
    {0x006, "CKR_FUNCTION_FAILED", kFail, kAmb},
    {0x007, "CKR_ARGUMENTS_BAD", kFail, kAmb},
    {0x008, "CKR_NO_EVENT", kFail, kFail},
    {0x009, "CKR_NEED_TO_CREATE_THREADS", kFail, kFail},
    {0x00A, "CKR_CANT_LOCK", kFail, kFail},
    {0x010, "CKR_ATTRIBUTE_READ_ONLY", kFail, kFail},
    {0x011, "CKR_ATTRIBUTE_SENSITIVE", kFail, kFail},
    {0x012, "CKR_ATTRIBUTE_TYPE_INVALID", kFail, kFail},
    {0x013, "CKR_ATTRIBUTE_VALUE_INVALID", kFail, kFail},
    {0x01B, "CKR_ACTION_PROHIBITED", kFail, kFail},
    {0x020, "CKR_DATA_INVALID", kFail, kAmb},
    {0x021, "CKR_DATA_LEN_RANGE", kFail, kAmb},
    {0x030, "CKR_DEVICE_ERROR", kDevice, kDevice},
    {0x031, "CKR_DEVICE_MEMORY", kDevice, kDevice},
    {0x032, "CKR_DEVICE_REMOVED", kLogin, kLogin},
    {0x040, "CKR_ENCRYPTED_DATA_INVALID", kFail, kBad},
    {0x041, "CKR_ENCRYPTED_DATA_LEN_RANGE", kFail, kAmb},
    {0x042, "CKR_AEAD_DECRYPT_FAILED", kFail, kBad},
    {0x050, "CKR_FUNCTION_CANCELED", kFail, kFail},
    {0x051, "CKR_FUNCTION_NOT_PARALLEL", kFail, kFail},
    {0x054, "CKR_FUNCTION_NOT_SUPPORTED", kFail, kFail},
    {0x060, "CKR_KEY_HANDLE_INVALID", kHandle, kHandle},
    {0x062, "CKR_KEY_SIZE_RANGE", kFail, kFail},
    {0x063, "CKR_KEY_TYPE_INCONSISTENT", kFail, kFail},
    {0x064, "CKR_KEY_NOT_NEEDED", kFail, kFail},
    {0x065, "CKR_KEY_CHANGED", kFail, kFail},
    {0x066, "CKR_KEY_NEEDED", kFail, kFail},
    {0x067, "CKR_KEY_INDIGESTIBLE", kFail, kFail},
    {0x068, "CKR_KEY_FUNCTION_NOT_PERMITTED", kFail, kFail},
    {0x069, "CKR_KEY_NOT_WRAPPABLE", kFail, kFail},
    {0x06A, "CKR_KEY_UNEXTRACTABLE", kFail, kFail},
    {0x070, "CKR_MECHANISM_INVALID", kFail, kFail},
    // A 16-byte IV (X-D1) that the token won't take: a ciphertext that we never made, or a layout that it dislikes.
    {0x071, "CKR_MECHANISM_PARAM_INVALID", kFail, kAmb},
    {0x082, "CKR_OBJECT_HANDLE_INVALID", kHandle, kHandle},
    {0x090, "CKR_OPERATION_ACTIVE", kSession, kSession},
    {0x091, "CKR_OPERATION_NOT_INITIALIZED", kSession, kSession},
    {0x0A0, "CKR_PIN_INCORRECT", kLogin, kLogin},
    {0x0A1, "CKR_PIN_INVALID", kLogin, kLogin},
    {0x0A2, "CKR_PIN_LEN_RANGE", kLogin, kLogin},
    {0x0A3, "CKR_PIN_EXPIRED", kLogin, kLogin},
    {0x0A4, "CKR_PIN_LOCKED", kLogin, kLogin},
    {0x0B0, "CKR_SESSION_CLOSED", kSession, kSession},
    {0x0B1, "CKR_SESSION_COUNT", kDevice, kDevice},
    {0x0B3, "CKR_SESSION_HANDLE_INVALID", kSession, kSession},
    {0x0B4, "CKR_SESSION_PARALLEL_NOT_SUPPORTED", kFail, kFail},
    {0x0B5, "CKR_SESSION_READ_ONLY", kFail, kFail},
    {0x0B6, "CKR_SESSION_EXISTS", kFail, kFail},
    {0x0B7, "CKR_SESSION_READ_ONLY_EXISTS", kFail, kFail},
    {0x0B8, "CKR_SESSION_READ_WRITE_SO_EXISTS", kFail, kFail},
    {0x0C0, "CKR_SIGNATURE_INVALID", kFail, kFail},
    {0x0C1, "CKR_SIGNATURE_LEN_RANGE", kFail, kFail},
    {0x0D0, "CKR_TEMPLATE_INCOMPLETE", kFail, kFail},
    {0x0D1, "CKR_TEMPLATE_INCONSISTENT", kFail, kFail},
    {0x0E0, "CKR_TOKEN_NOT_PRESENT", kLogin, kLogin},
    {0x0E1, "CKR_TOKEN_NOT_RECOGNIZED", kLogin, kLogin},
    {0x0E2, "CKR_TOKEN_WRITE_PROTECTED", kFail, kFail},
    {0x0F0, "CKR_UNWRAPPING_KEY_HANDLE_INVALID", kFail, kFail},
    {0x0F1, "CKR_UNWRAPPING_KEY_SIZE_RANGE", kFail, kFail},
    {0x0F2, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", kFail, kFail},
    {0x100, "CKR_USER_ALREADY_LOGGED_IN", kFail, kFail},
    {0x101, "CKR_USER_NOT_LOGGED_IN", kLogin, kLogin},
    {0x102, "CKR_USER_PIN_NOT_INITIALIZED", kLogin, kLogin},
    {0x103, "CKR_USER_TYPE_INVALID", kFail, kFail},
    {0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", kLogin, kLogin},
    {0x105, "CKR_USER_TOO_MANY_TYPES", kFail, kFail},
    {0x110, "CKR_WRAPPED_KEY_INVALID", kFail, kFail},
    {0x112, "CKR_WRAPPED_KEY_LEN_RANGE", kFail, kFail},
    {0x113, "CKR_WRAPPING_KEY_HANDLE_INVALID", kFail, kFail},
    {0x114, "CKR_WRAPPING_KEY_SIZE_RANGE", kFail, kFail},
    {0x115, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT", kFail, kFail},
    {0x120, "CKR_RANDOM_SEED_NOT_SUPPORTED", kFail, kFail},
    {0x121, "CKR_RANDOM_NO_RNG", kFail, kFail},
    {0x130, "CKR_DOMAIN_PARAMS_INVALID", kFail, kFail},
    {0x140, "CKR_CURVE_NOT_SUPPORTED", kFail, kFail},
    {0x150, "CKR_BUFFER_TOO_SMALL", kFail, kFail},
    {0x160, "CKR_SAVED_STATE_INVALID", kFail, kFail},
    {0x170, "CKR_INFORMATION_SENSITIVE", kFail, kFail},
    {0x180, "CKR_STATE_UNSAVEABLE", kFail, kFail},
    {0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", kLogin, kLogin},
    {0x191, "CKR_CRYPTOKI_ALREADY_INITIALIZED", kFail, kFail},
    {0x1A0, "CKR_MUTEX_BAD", kFail, kFail},
    {0x1A1, "CKR_MUTEX_NOT_LOCKED", kFail, kFail},
    {0x1B0, "CKR_NEW_PIN_MODE", kFail, kFail},
    {0x1B1, "CKR_NEXT_OTP", kFail, kFail},
    {0x1B5, "CKR_EXCEEDED_MAX_ITERATIONS", kFail, kFail},
    {0x1B6, "CKR_FIPS_SELF_TEST_FAILED", kDevice, kDevice},
    {0x1B7, "CKR_LIBRARY_LOAD_FAILED", kFail, kFail},
    {0x1B8, "CKR_PIN_TOO_WEAK", kFail, kFail},
    {0x1B9, "CKR_PUBLIC_KEY_INVALID", kFail, kFail},
    {0x200, "CKR_FUNCTION_REJECTED", kFail, kFail},
    {0x201, "CKR_TOKEN_RESOURCE_EXCEEDED", kDevice, kDevice},
    {0x202, "CKR_OPERATION_CANCEL_FAILED", kSession, kSession},
    {0x203, "CKR_KEY_EXHAUSTED", kFail, kFail},
};

constexpr CK_RV kGeneralError = 0x5, kFunctionFailed = 0x6;

const Row* FindRow(CK_RV rv) {
  for (const Row& row : kRows) {
    if (row.rv == rv) return &row;
  }
  return nullptr;
}

}  // namespace

RvClass ClassifyRv(CK_RV rv, Operation operation) {
  const Row* row = FindRow(rv);
  // What a vendor means by a code of its own is unknown: in a decrypt it may be the ciphertext.
  if (row == nullptr) return operation == Operation::kDecrypt ? RvClass::kAmbiguous : RvClass::kFailed;
  return operation == Operation::kDecrypt ? row->decrypt : row->encrypt;
}

BadTagCodes BadTagCodes::FromFlags(uint32_t flags) {
  BadTagCodes codes;
  codes.general_error = (flags & cell::kFlagGeneralErrorIsFault) == 0;
  codes.function_failed = (flags & cell::kFlagFunctionFailedIsFault) == 0;
  codes.vendor_defined = (flags & cell::kFlagVendorCodeIsFault) == 0;
  return codes;
}

bool SaysNothing(CK_RV rv) { return rv == kGeneralError || rv == kFunctionFailed || FindRow(rv) == nullptr; }

bool MayBeBadTag(CK_RV rv, const BadTagCodes& codes) {
  if (rv == kGeneralError) return codes.general_error;
  if (rv == kFunctionFailed) return codes.function_failed;
  if (FindRow(rv) == nullptr) return codes.vendor_defined;
  // The others speak of data and parameters: of a length, an IV.
  return true;
}

bool IsDoubtful(RvClass rv_class) { return rv_class == RvClass::kBadCiphertext || rv_class == RvClass::kAmbiguous; }

const char* RvClassName(RvClass rv_class) {
  switch (rv_class) {
    case RvClass::kOk: return "ok";
    case RvClass::kBadCiphertext: return "bad-ciphertext";
    case RvClass::kAmbiguous: return "ambiguous";
    case RvClass::kHandleStale: return "handle-stale";
    case RvClass::kSessionLost: return "session-lost";
    case RvClass::kDevice: return "device";
    case RvClass::kLoginLost: return "login-lost";
    case RvClass::kFailed: return "failed";
  }
  return "failed";
}

std::string RvName(CK_RV rv) {
  const Row* row = FindRow(rv);
  if (row != nullptr) return row->name;
  constexpr CK_RV kVendorDefined = 0x80000000UL;
  char text[48];
  if (rv >= kVendorDefined) {
    std::snprintf(text, sizeof text, "CKR_VENDOR_DEFINED+0x%lX", rv - kVendorDefined);
  } else {
    std::snprintf(text, sizeof text, "CKR_0x%lX", rv);
  }
  return text;
}

}  // namespace xksd
