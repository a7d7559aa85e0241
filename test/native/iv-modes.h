/*
 * Modules that make the IV of an AES-GCM encryption themselves, imitated over one that takes the caller's:
 *
 *   IV_APPENDED    Thales Luna in FIPS mode: what the caller gives is ignored; the IV follows the tag in C_Encrypt's
 *                  output. 12 bytes for ulIvLen 0 with ulIvBits 96, else 16.
 *   IV_IN_PLACE    AWS CloudHSM: the caller passes 12 zero bytes (others: CKR_MECHANISM_PARAM_INVALID), and C_Encrypt
 *                  writes the IV there: pIv must be good until then.
 *   IV_ZERO_IN     Entrust nShield: 12 zero bytes ask for an IV, which C_EncryptInit writes there; others are used as
 *                  they are.
 *   IV_STAYS_ZERO  broken: takes 12 zero bytes as in place, encrypts under them, and writes nothing.
 *   IV_REPLACES    as in place, whatever the caller passes.
 *
 * Decryption takes the caller's IV in all of them. With a period they make the same IVs again after so many: broken, too.
 * And modules whose CK_GCM_PARAMS has no ulIvBits: they refuse any other length of the parameters.
 */
#ifndef XKSD_TEST_IV_MODES_H
#define XKSD_TEST_IV_MODES_H

#include "fault-rules.h"

CK_RV iv_encrypt_init(const CK_FUNCTION_LIST* real, const struct fault* fault, CK_SESSION_HANDLE session,
                      CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key);

CK_RV iv_decrypt_init(const CK_FUNCTION_LIST* real, const struct fault* fault, CK_SESSION_HANDLE session,
                      CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key);

/* For an operation begun by `iv_encrypt_init` on this thread. */
CK_RV iv_encrypt(const CK_FUNCTION_LIST* real, CK_SESSION_HANDLE session, CK_BYTE* data, CK_ULONG data_bytes,
                 CK_BYTE* out, CK_ULONG* out_bytes);

#endif
