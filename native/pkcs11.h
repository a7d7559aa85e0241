/*
 * The part of PKCS#11 (OASIS PKCS #11 Cryptographic Token Interface, v2.40 and v3.0) that the hot path calls, declared
 * after the standard so that a bare machine can build it. On Linux structures have their natural alignment. Plain C:
 * the fault shim of the tests is built on it too. Functions that we never call keep their place as `void*`.
 */
#ifndef XKSD_PKCS11_H
#define XKSD_PKCS11_H

#ifdef __cplusplus
extern "C" {
#endif

typedef unsigned char CK_BYTE;
typedef unsigned long CK_ULONG; /* 64 bits here: handles don't fit 32 */
typedef CK_ULONG CK_RV;
typedef CK_ULONG CK_FLAGS;
typedef CK_ULONG CK_SLOT_ID;
typedef CK_ULONG CK_SESSION_HANDLE;
typedef CK_ULONG CK_OBJECT_HANDLE;
typedef CK_ULONG CK_ATTRIBUTE_TYPE;
typedef CK_ULONG CK_MECHANISM_TYPE;

typedef struct {
  CK_BYTE major;
  CK_BYTE minor;
} CK_VERSION;

typedef struct {
  CK_ATTRIBUTE_TYPE type;
  void* pValue;
  CK_ULONG ulValueLen;
} CK_ATTRIBUTE;

typedef struct {
  CK_MECHANISM_TYPE mechanism;
  void* pParameter;
  CK_ULONG ulParameterLen;
} CK_MECHANISM;

/* v2.40 errata 1 and later; the older layout has no ulIvBits (hsm.md: a difference between vendors). */
typedef struct {
  CK_BYTE* pIv;
  CK_ULONG ulIvLen;
  CK_ULONG ulIvBits;
  CK_BYTE* pAAD;
  CK_ULONG ulAADLen;
  CK_ULONG ulTagBits;
} CK_GCM_PARAMS;

/* The same as the text of v2.40 has it, 2.12.3. */
typedef struct {
  CK_BYTE* pIv;
  CK_ULONG ulIvLen;
  CK_BYTE* pAAD;
  CK_ULONG ulAADLen;
  CK_ULONG ulTagBits;
} CK_GCM_PARAMS_WITHOUT_IV_BITS;

/*
 * C_Initialize's argument as NSS wants it: LibraryParameters stands where the standard's pReserved is, which must be
 * NULL for every other module. With LibraryParameters NULL this is the standard's structure and a bit more.
 */
typedef struct {
  void* CreateMutex;
  void* DestroyMutex;
  void* LockMutex;
  void* UnlockMutex;
  CK_FLAGS flags;
  const char* LibraryParameters;
  void* pReserved;
} CK_C_INITIALIZE_ARGS;

typedef struct {
  CK_SLOT_ID slotID;
  CK_ULONG state;
  CK_FLAGS flags;
  CK_ULONG ulDeviceError;
} CK_SESSION_INFO;

typedef struct {
  CK_BYTE label[32];
  CK_BYTE manufacturerID[32];
  CK_BYTE model[16];
  CK_BYTE serialNumber[16];
  CK_FLAGS flags;
  CK_ULONG ulMaxSessionCount;
  CK_ULONG ulSessionCount;
  CK_ULONG ulMaxRwSessionCount;
  CK_ULONG ulRwSessionCount;
  CK_ULONG ulMaxPinLen;
  CK_ULONG ulMinPinLen;
  CK_ULONG ulTotalPublicMemory;
  CK_ULONG ulFreePublicMemory;
  CK_ULONG ulTotalPrivateMemory;
  CK_ULONG ulFreePrivateMemory;
  CK_VERSION hardwareVersion;
  CK_VERSION firmwareVersion;
  CK_BYTE utcTime[16];
} CK_TOKEN_INFO;

#define CKF_OS_LOCKING_OK 0x00000002UL
#define CKF_SERIAL_SESSION 0x00000004UL
#define CKF_LOGIN_REQUIRED 0x00000004UL /* of a token */

#define CKS_RO_USER_FUNCTIONS 1UL
#define CKS_RW_USER_FUNCTIONS 3UL

#define CKO_SECRET_KEY 0x00000004UL
#define CKK_AES 0x0000001FUL
#define CKA_CLASS 0x00000000UL
#define CKA_KEY_TYPE 0x00000100UL
#define CKA_ID 0x00000102UL
#define CKM_AES_GCM 0x00001087UL

#define CKR_OK 0x00000000UL
#define CKR_CRYPTOKI_ALREADY_INITIALIZED 0x00000191UL

typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;

/* Every function of v2.x in the order of the standard, 11.1: it is the layout of CK_FUNCTION_LIST. */
struct CK_FUNCTION_LIST {
  CK_VERSION version;
  CK_RV (*C_Initialize)(void* args);
  CK_RV (*C_Finalize)(void* reserved);
  void* C_GetInfo;
  CK_RV (*C_GetFunctionList)(CK_FUNCTION_LIST** list);
  CK_RV (*C_GetSlotList)(CK_BYTE tokenPresent, CK_SLOT_ID* slots, CK_ULONG* count);
  void* C_GetSlotInfo;
  CK_RV (*C_GetTokenInfo)(CK_SLOT_ID slot, CK_TOKEN_INFO* info);
  void* C_GetMechanismList;
  void* C_GetMechanismInfo;
  void* C_InitToken;
  void* C_InitPIN;
  void* C_SetPIN;
  CK_RV (*C_OpenSession)(CK_SLOT_ID slot, CK_FLAGS flags, void* application, void* notify, CK_SESSION_HANDLE* session);
  CK_RV (*C_CloseSession)(CK_SESSION_HANDLE session);
  CK_RV (*C_CloseAllSessions)(CK_SLOT_ID slot);
  CK_RV (*C_GetSessionInfo)(CK_SESSION_HANDLE session, CK_SESSION_INFO* info);
  void* C_GetOperationState;
  void* C_SetOperationState;
  CK_RV (*C_Login)(CK_SESSION_HANDLE session, CK_ULONG user, CK_BYTE* pin, CK_ULONG pinBytes);
  CK_RV (*C_Logout)(CK_SESSION_HANDLE session);
  CK_RV (*C_CreateObject)(CK_SESSION_HANDLE session, CK_ATTRIBUTE* attributes, CK_ULONG count, CK_OBJECT_HANDLE* object);
  void* C_CopyObject;
  CK_RV (*C_DestroyObject)(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object);
  void* C_GetObjectSize;
  CK_RV (*C_GetAttributeValue)(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes,
                               CK_ULONG count);
  void* C_SetAttributeValue;
  CK_RV (*C_FindObjectsInit)(CK_SESSION_HANDLE session, CK_ATTRIBUTE* attributes, CK_ULONG count);
  CK_RV (*C_FindObjects)(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE* objects, CK_ULONG max, CK_ULONG* count);
  CK_RV (*C_FindObjectsFinal)(CK_SESSION_HANDLE session);
  CK_RV (*C_EncryptInit)(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key);
  CK_RV (*C_Encrypt)(CK_SESSION_HANDLE session, CK_BYTE* data, CK_ULONG dataBytes, CK_BYTE* out, CK_ULONG* outBytes);
  void* C_EncryptUpdate;
  void* C_EncryptFinal;
  CK_RV (*C_DecryptInit)(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key);
  CK_RV (*C_Decrypt)(CK_SESSION_HANDLE session, CK_BYTE* data, CK_ULONG dataBytes, CK_BYTE* out, CK_ULONG* outBytes);
  void* C_DecryptUpdate;
  void* C_DecryptFinal;
  void* C_DigestInit;
  void* C_Digest;
  void* C_DigestUpdate;
  void* C_DigestKey;
  void* C_DigestFinal;
  void* C_SignInit;
  void* C_Sign;
  void* C_SignUpdate;
  void* C_SignFinal;
  void* C_SignRecoverInit;
  void* C_SignRecover;
  void* C_VerifyInit;
  void* C_Verify;
  void* C_VerifyUpdate;
  void* C_VerifyFinal;
  void* C_VerifyRecoverInit;
  void* C_VerifyRecover;
  void* C_DigestEncryptUpdate;
  void* C_DecryptDigestUpdate;
  void* C_SignEncryptUpdate;
  void* C_DecryptVerifyUpdate;
  CK_RV (*C_GenerateKey)(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_ATTRIBUTE* attributes, CK_ULONG count,
                         CK_OBJECT_HANDLE* key);
  void* C_GenerateKeyPair;
  void* C_WrapKey;
  void* C_UnwrapKey;
  void* C_DeriveKey;
  void* C_SeedRandom;
  CK_RV (*C_GenerateRandom)(CK_SESSION_HANDLE session, CK_BYTE* random, CK_ULONG bytes);
  void* C_GetFunctionStatus;
  void* C_CancelFunction;
  void* C_WaitForSlotEvent;
};

#ifdef __cplusplus
}
#endif

#endif
