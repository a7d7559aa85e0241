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

static unsigned long ivs_made;

/* Drawn, or the next of `period`, counted over all threads of the process. */
static int make_iv(CK_ULONG bytes, unsigned long period) {
  begun.iv_bytes = bytes;
  if (period == 0) return getrandom(begun.iv, bytes, 0) == (ssize_t)bytes;
  const unsigned long place = __atomic_fetch_add(&ivs_made, 1, __ATOMIC_RELAXED) % period + 1;
  memset(begun.iv, 0, sizeof begun.iv);
  memcpy(begun.iv, &place, sizeof place);
  return 1;
}

/* The parameters in the layout that the real module takes. */
static int read_parameters(const CK_MECHANISM* mechanism, const struct fault* fault, CK_GCM_PARAMS* gcm) {
  if (mechanism->pParameter == NULL) return 0;
  if (!fault->without_iv_bits) {
    if (mechanism->ulParameterLen != sizeof *gcm) return 0;
    memcpy(gcm, mechanism->pParameter, sizeof *gcm);
    return 1;
  }
  CK_GCM_PARAMS_WITHOUT_IV_BITS old;
  if (mechanism->ulParameterLen != sizeof old) return 0;
  memcpy(&old, mechanism->pParameter, sizeof old);
  *gcm = (CK_GCM_PARAMS){old.pIv, old.ulIvLen, old.ulIvLen * 8, old.pAAD, old.ulAADLen, old.ulTagBits};
  return 1;
}

CK_RV iv_decrypt_init(const CK_FUNCTION_LIST* real, const struct fault* fault, CK_SESSION_HANDLE session,
                      CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  if (!fault->without_iv_bits || mechanism == NULL || mechanism->mechanism != CKM_AES_GCM)
    return real->C_DecryptInit(session, mechanism, key);
  CK_GCM_PARAMS gcm;
  if (!read_parameters(mechanism, fault, &gcm)) return CKR_MECHANISM_PARAM_INVALID;
  CK_MECHANISM own = {CKM_AES_GCM, &gcm, sizeof gcm};
  return real->C_DecryptInit(session, &own, key);
}

CK_RV iv_encrypt_init(const CK_FUNCTION_LIST* real, const struct fault* fault, CK_SESSION_HANDLE session,
                      CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  const enum iv_mode mode = fault->iv_mode;
  begun.mode = IV_OF_CALLER;
  if (mechanism == NULL || mechanism->mechanism != CKM_AES_GCM || (mode == IV_OF_CALLER && !fault->without_iv_bits))
    return real->C_EncryptInit(session, mechanism, key);
  CK_GCM_PARAMS gcm;
  if (!read_parameters(mechanism, fault, &gcm)) return CKR_MECHANISM_PARAM_INVALID;
  if (mode == IV_OF_CALLER) {
    CK_MECHANISM same = {CKM_AES_GCM, &gcm, sizeof gcm};
    return real->C_EncryptInit(session, &same, key);
  }
  begun.session = session;
  begun.callers_iv = gcm.pIv;
  begun.tag_bytes = gcm.ulTagBits / 8;
  if (mode == IV_APPENDED) {
    const int short_iv = gcm.ulIvLen == 0 && gcm.ulIvBits == IV_BYTES * 8;
    if (!make_iv(short_iv ? IV_BYTES : IV_BYTES_MAX, fault->iv_period)) return CKR_DEVICE_ERROR;
  } else if (mode == IV_REPLACES ? gcm.ulIvLen == IV_BYTES : is_zero_iv(&gcm)) {
    if (!make_iv(IV_BYTES, fault->iv_period)) return CKR_DEVICE_ERROR;
    if (mode == IV_STAYS_ZERO) memset(begun.iv, 0, sizeof begun.iv);
  } else if (mode == IV_ZERO_IN) {
    CK_MECHANISM same = {CKM_AES_GCM, &gcm, sizeof gcm};
    return real->C_EncryptInit(session, &same, key);
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
  if (rv == CKR_OK && (begun.mode == IV_IN_PLACE || begun.mode == IV_REPLACES))
    memcpy(begun.callers_iv, begun.iv, begun.iv_bytes);
  begun.mode = IV_OF_CALLER;
  return rv;
}
