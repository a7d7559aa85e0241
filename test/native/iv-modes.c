#include "iv-modes.h"

#include <string.h>
#include <sys/random.h>

#define IV_BYTES 12
#define IV_BYTES_MAX 16

/* The encryption that this thread has begun. */
static __thread struct {
  CK_SESSION_HANDLE session;
  enum iv_mode mode;
  CK_BYTE iv[IV_BYTES_MAX];
  CK_ULONG iv_bytes;
  CK_ULONG tag_bytes;
  CK_BYTE* callers_iv;
} begun;

static int is_zero_iv(const CK_GCM_PARAMS* gcm) {
  static const CK_BYTE zero[IV_BYTES];
  return gcm->pIv != NULL && gcm->ulIvLen == IV_BYTES && memcmp(gcm->pIv, zero, IV_BYTES) == 0;
}

static int draw_iv(CK_ULONG bytes) {
  begun.iv_bytes = bytes;
  return getrandom(begun.iv, bytes, 0) == (ssize_t)bytes;
}

CK_RV iv_encrypt_init(const CK_FUNCTION_LIST* real, enum iv_mode mode, CK_SESSION_HANDLE session,
                      CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  begun.mode = IV_OF_CALLER;
  if (mode == IV_OF_CALLER || mechanism == NULL || mechanism->mechanism != CKM_AES_GCM)
    return real->C_EncryptInit(session, mechanism, key);
  if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof(CK_GCM_PARAMS))
    return CKR_MECHANISM_PARAM_INVALID;
  CK_GCM_PARAMS gcm;
  memcpy(&gcm, mechanism->pParameter, sizeof gcm);
  begun.session = session;
  begun.callers_iv = gcm.pIv;
  begun.tag_bytes = gcm.ulTagBits / 8;
  if (mode == IV_APPENDED) {
    const int short_iv = gcm.ulIvLen == 0 && gcm.ulIvBits == IV_BYTES * 8;
    if (!draw_iv(short_iv ? IV_BYTES : IV_BYTES_MAX)) return CKR_DEVICE_ERROR;
  } else if (is_zero_iv(&gcm)) {
    if (!draw_iv(IV_BYTES)) return CKR_DEVICE_ERROR;
    if (mode == IV_STAYS_ZERO) memset(begun.iv, 0, sizeof begun.iv);
  } else if (mode == IV_ZERO_IN) {
    return real->C_EncryptInit(session, mechanism, key);
  } else {
    return CKR_MECHANISM_PARAM_INVALID;
  }
  gcm.pIv = begun.iv;
  gcm.ulIvLen = begun.iv_bytes;
  gcm.ulIvBits = begun.iv_bytes * 8;
  CK_MECHANISM own = {CKM_AES_GCM, &gcm, sizeof gcm};
  const CK_RV rv = real->C_EncryptInit(session, &own, key);
  if (rv != CKR_OK) return rv;
  begun.mode = mode;
  if (mode == IV_ZERO_IN) memcpy(begun.callers_iv, begun.iv, begun.iv_bytes);
  return rv;
}

CK_RV iv_encrypt(const CK_FUNCTION_LIST* real, CK_SESSION_HANDLE session, CK_BYTE* data, CK_ULONG data_bytes,
                 CK_BYTE* out, CK_ULONG* out_bytes) {
  if (begun.mode == IV_OF_CALLER || begun.session != session)
    return real->C_Encrypt(session, data, data_bytes, out, out_bytes);
  const int appends = begun.mode == IV_APPENDED;
  const CK_ULONG sealed_bytes = data_bytes + begun.tag_bytes + (appends ? begun.iv_bytes : 0);
  // PKCS#11 §5.2: neither ends the operation.
  if (out == NULL || *out_bytes < sealed_bytes) {
    *out_bytes = sealed_bytes;
    return out == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
  }
  const CK_RV rv = real->C_Encrypt(session, data, data_bytes, out, out_bytes);
  if (rv == CKR_OK && appends) {
    memcpy(out + *out_bytes, begun.iv, begun.iv_bytes);
    *out_bytes += begun.iv_bytes;
  }
  if (rv == CKR_OK && begun.mode == IV_IN_PLACE) memcpy(begun.callers_iv, begun.iv, begun.iv_bytes);
  begun.mode = IV_OF_CALLER;
  return rv;
}
