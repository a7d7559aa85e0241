/*
 * Of PKCS#11 v2.40, what native/pkcs11.h leaves out because the product never calls it from native code: structures,
 * and the types of functions that stand there as `void*`.
 */
#ifndef XKSD_TEST_PKCS11_MORE_H
#define XKSD_TEST_PKCS11_MORE_H

#include "../../native/pkcs11.h"

#define CKR_DEVICE_ERROR 0x30UL
#define CKR_DEVICE_REMOVED 0x32UL
#define CKR_HOST_MEMORY 0x02UL
#define CKR_ARGUMENTS_BAD 0x07UL
#define CKR_FUNCTION_NOT_SUPPORTED 0x54UL
#define CKR_MECHANISM_PARAM_INVALID 0x71UL
#define CKR_SESSION_HANDLE_INVALID 0xB3UL
#define CKR_TOKEN_NOT_PRESENT 0xE0UL
#define CKR_BUFFER_TOO_SMALL 0x150UL
#define CKR_CRYPTOKI_NOT_INITIALIZED 0x190UL

#define CK_UNAVAILABLE_INFORMATION (~0UL)
#define CKF_TOKEN_PRESENT 0x1UL
#define CKA_LABEL 0x3UL

typedef struct {
  CK_VERSION cryptokiVersion;
  CK_BYTE manufacturerID[32];
  CK_FLAGS flags;
  CK_BYTE libraryDescription[32];
  CK_VERSION libraryVersion;
} CK_INFO;

typedef struct {
  CK_BYTE slotDescription[64];
  CK_BYTE manufacturerID[32];
  CK_FLAGS flags;
  CK_VERSION hardwareVersion;
  CK_VERSION firmwareVersion;
} CK_SLOT_INFO;

typedef struct {
  CK_ULONG ulMinKeySize;
  CK_ULONG ulMaxKeySize;
  CK_FLAGS flags;
} CK_MECHANISM_INFO;

typedef CK_RV (*CK_C_GetInfo)(CK_INFO* info);
typedef CK_RV (*CK_C_GetSlotList)(CK_BYTE token_present, CK_SLOT_ID* slots, CK_ULONG* count);
typedef CK_RV (*CK_C_GetSlotInfo)(CK_SLOT_ID slot, CK_SLOT_INFO* info);
typedef CK_RV (*CK_C_GetMechanismList)(CK_SLOT_ID slot, CK_MECHANISM_TYPE* mechanisms, CK_ULONG* count);
typedef CK_RV (*CK_C_GetMechanismInfo)(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism, CK_MECHANISM_INFO* info);
typedef CK_RV (*CK_C_GetAttributeValue)(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes,
                                        CK_ULONG count);
typedef CK_RV (*CK_C_GenerateKey)(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_ATTRIBUTE* attributes,
                                  CK_ULONG count, CK_OBJECT_HANDLE* key);

#endif
