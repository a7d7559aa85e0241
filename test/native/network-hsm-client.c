/* The client half of the network HSM (network-hsm.h): each PKCS#11 call becomes a message. Test code, never shipped. */
#include <stddef.h>

#include "network-hsm-link.h"

static CK_FUNCTION_LIST table;

/* Of every call: `message`, `rv`; ends the function where it cannot be made. */
#define BEGIN(name)                                          \
  CK_RV rv;                                                  \
  struct message* message = begin_call(CALL_##name, &rv);    \
  if (message == NULL) return rv;
/* The same on a session. */
#define BEGIN_ON(name, session)                                          \
  BEGIN(name)                                                            \
  CK_SESSION_HANDLE servers;                                             \
  if (!session_of_server(session, &servers)) return CKR_SESSION_HANDLE_INVALID; \
  put_number(message, servers);

static CK_RV client_Initialize(void* args) {
  (void)args;
  return link_initialize();
}

static CK_RV client_Finalize(void* reserved) {
  (void)reserved;
  return link_finalize();
}

static CK_RV finish_with_structure(struct message* message, void* structure, size_t bytes) {
  const CK_RV rv = finish_call(message);
  if (rv == CKR_OK) get_structure(message, structure, bytes);
  return rv == CKR_OK && message->bad ? CKR_DEVICE_ERROR : rv;
}

/* A list of numbers with room for `*count`, or none (PKCS#11 §5.2). */
static CK_RV finish_with_list(struct message* message, CK_ULONG* list, CK_ULONG* count) {
  const CK_ULONG room = *count;
  const CK_RV rv = finish_call(message);
  if (rv != CKR_OK && rv != CKR_BUFFER_TOO_SMALL) return rv;
  *count = get_number(message);
  if (list == NULL || rv != CKR_OK) return rv;
  if (*count > room) return CKR_DEVICE_ERROR;
  for (CK_ULONG i = 0; i < *count; ++i) list[i] = get_number(message);
  return message->bad ? CKR_DEVICE_ERROR : rv;
}

static CK_RV client_GetInfo(CK_INFO* info) {
  BEGIN(GetInfo)
  return finish_with_structure(message, info, sizeof *info);
}

static CK_RV client_GetSlotList(CK_BYTE token_present, CK_SLOT_ID* slots, CK_ULONG* count) {
  BEGIN(GetSlotList)
  put_number(message, token_present);
  put_number(message, slots != NULL);
  put_number(message, slots == NULL ? 0 : *count);
  return finish_with_list(message, slots, count);
}

static CK_RV client_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO* info) {
  BEGIN(GetSlotInfo)
  put_number(message, slot);
  return finish_with_structure(message, info, sizeof *info);
}

static CK_RV client_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO* info) {
  BEGIN(GetTokenInfo)
  put_number(message, slot);
  return finish_with_structure(message, info, sizeof *info);
}

static CK_RV client_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE* mechanisms, CK_ULONG* count) {
  BEGIN(GetMechanismList)
  put_number(message, slot);
  put_number(message, mechanisms != NULL);
  put_number(message, mechanisms == NULL ? 0 : *count);
  return finish_with_list(message, mechanisms, count);
}

static CK_RV client_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism, CK_MECHANISM_INFO* info) {
  BEGIN(GetMechanismInfo)
  put_number(message, slot);
  put_number(message, mechanism);
  return finish_with_structure(message, info, sizeof *info);
}

static CK_RV client_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void* application, void* notify,
                                CK_SESSION_HANDLE* session) {
  (void)application;
  (void)notify;
  BEGIN(OpenSession)
  put_number(message, slot);
  put_number(message, flags);
  rv = finish_call(message);
  if (rv == CKR_OK) *session = session_of_application(get_number(message));
  return rv;
}

static CK_RV client_CloseSession(CK_SESSION_HANDLE session) {
  BEGIN_ON(CloseSession, session)
  return finish_call(message);
}

static CK_RV client_CloseAllSessions(CK_SLOT_ID slot) {
  BEGIN(CloseAllSessions)
  put_number(message, slot);
  return finish_call(message);
}

static CK_RV client_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO* info) {
  BEGIN_ON(GetSessionInfo, session)
  return finish_with_structure(message, info, sizeof *info);
}

static CK_RV client_Login(CK_SESSION_HANDLE session, CK_ULONG user, CK_BYTE* pin, CK_ULONG bytes) {
  BEGIN_ON(Login, session)
  put_number(message, user);
  put_bytes(message, pin, bytes);
  return finish_call(message);
}

static CK_RV client_Logout(CK_SESSION_HANDLE session) {
  BEGIN_ON(Logout, session)
  return finish_call(message);
}

static void put_attributes(struct message* message, const CK_ATTRIBUTE* attributes, CK_ULONG count) {
  if (count > ATTRIBUTES_MAX) message->bad = 1;
  put_number(message, count);
  for (CK_ULONG i = 0; i < count && !message->bad; ++i) {
    put_number(message, attributes[i].type);
    put_bytes(message, attributes[i].pValue, attributes[i].ulValueLen);
  }
}

static CK_RV finish_with_number(struct message* message, CK_ULONG* number) {
  const CK_RV rv = finish_call(message);
  if (rv == CKR_OK) *number = get_number(message);
  return rv;
}

static CK_RV client_CreateObject(CK_SESSION_HANDLE session, CK_ATTRIBUTE* attributes, CK_ULONG count,
                                 CK_OBJECT_HANDLE* object) {
  BEGIN_ON(CreateObject, session)
  put_attributes(message, attributes, count);
  return finish_with_number(message, object);
}

static CK_RV client_DestroyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object) {
  BEGIN_ON(DestroyObject, session)
  put_number(message, object);
  return finish_call(message);
}

static CK_RV client_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* attributes,
                                      CK_ULONG count) {
  BEGIN_ON(GetAttributeValue, session)
  put_number(message, object);
  put_number(message, count);
  for (CK_ULONG i = 0; i < count; ++i) {
    put_number(message, attributes[i].type);
    put_number(message, attributes[i].pValue != NULL);
    put_number(message, attributes[i].pValue == NULL ? 0 : attributes[i].ulValueLen);
  }
  rv = finish_call(message);
  // §5.7.5: lengths are told, and values that could be, whatever became of the others.
  for (CK_ULONG i = 0; i < count && message->at < message->size; ++i) {
    size_t bytes = 0;
    const CK_ULONG length = get_number(message);
    const uint8_t* value = get_bytes(message, &bytes);
    if (attributes[i].pValue != NULL && value != NULL && bytes <= attributes[i].ulValueLen)
      memcpy(attributes[i].pValue, value, bytes);
    attributes[i].ulValueLen = length;
  }
  return rv;
}

static CK_RV client_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE* attributes, CK_ULONG count) {
  BEGIN_ON(FindObjectsInit, session)
  put_attributes(message, attributes, count);
  return finish_call(message);
}

static CK_RV client_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE* objects, CK_ULONG max, CK_ULONG* count) {
  BEGIN_ON(FindObjects, session)
  put_number(message, max);
  *count = max;
  return finish_with_list(message, objects, count);
}

static CK_RV client_FindObjectsFinal(CK_SESSION_HANDLE session) {
  BEGIN_ON(FindObjectsFinal, session)
  return finish_call(message);
}

/* Parameters hold pointers; of all there are, only AES-GCM's are taken apart. */
static void put_mechanism(struct message* message, const CK_MECHANISM* mechanism) {
  put_number(message, mechanism->mechanism);
  if (mechanism->mechanism != CKM_AES_GCM) {
    put_bytes(message, mechanism->pParameter, mechanism->ulParameterLen);
    return;
  }
  const CK_GCM_PARAMS* gcm = mechanism->pParameter;
  if (mechanism->ulParameterLen != sizeof *gcm) {
    message->bad = 1;
    return;
  }
  put_bytes(message, gcm->pIv, gcm->ulIvLen);
  put_number(message, gcm->ulIvBits);
  put_bytes(message, gcm->pAAD, gcm->ulAADLen);
  put_number(message, gcm->ulTagBits);
}

static CK_RV client_GenerateKey(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_ATTRIBUTE* attributes,
                                CK_ULONG count, CK_OBJECT_HANDLE* key) {
  BEGIN_ON(GenerateKey, session)
  put_mechanism(message, mechanism);
  put_attributes(message, attributes, count);
  return finish_with_number(message, key);
}

static CK_RV client_EncryptInit(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  BEGIN_ON(EncryptInit, session)
  put_mechanism(message, mechanism);
  put_number(message, key);
  return finish_call(message);
}

static CK_RV client_DecryptInit(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  BEGIN_ON(DecryptInit, session)
  put_mechanism(message, mechanism);
  put_number(message, key);
  return finish_call(message);
}

static CK_RV finish_with_output(struct message* message, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out,
                                CK_ULONG* out_bytes) {
  const CK_ULONG room = *out_bytes;
  put_bytes(message, in, bytes);
  put_number(message, out != NULL);
  put_number(message, out == NULL ? 0 : room);
  const CK_RV rv = finish_call(message);
  if (rv != CKR_OK && rv != CKR_BUFFER_TOO_SMALL) return rv;
  size_t sent = 0;
  *out_bytes = get_number(message);
  const uint8_t* result = get_bytes(message, &sent);
  if (out == NULL || rv != CKR_OK) return rv;
  if (result == NULL || sent > room) return CKR_DEVICE_ERROR;
  memcpy(out, result, sent);
  return rv;
}

static CK_RV client_Encrypt(CK_SESSION_HANDLE session, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out,
                            CK_ULONG* out_bytes) {
  BEGIN_ON(Encrypt, session)
  return finish_with_output(message, in, bytes, out, out_bytes);
}

static CK_RV client_Decrypt(CK_SESSION_HANDLE session, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out,
                            CK_ULONG* out_bytes) {
  BEGIN_ON(Decrypt, session)
  return finish_with_output(message, in, bytes, out, out_bytes);
}

static CK_RV client_GenerateRandom(CK_SESSION_HANDLE session, CK_BYTE* random, CK_ULONG bytes) {
  BEGIN_ON(GenerateRandom, session)
  put_number(message, bytes);
  return finish_with_structure(message, random, bytes);
}

/* Whatever its parameters are: it looks at none. */
static CK_RV client_unsupported(void) { return CKR_FUNCTION_NOT_SUPPORTED; }

static CK_RV client_GetFunctionList(CK_FUNCTION_LIST** list) {
  *list = &table;
  return CKR_OK;
}

#define EACH(X)                                                                                                      \
  X(Initialize) X(Finalize) X(GetFunctionList) X(GetInfo) X(GetSlotList) X(GetSlotInfo) X(GetTokenInfo)               \
  X(GetMechanismList) X(GetMechanismInfo) X(OpenSession) X(CloseSession) X(CloseAllSessions) X(GetSessionInfo)        \
  X(Login) X(Logout) X(CreateObject) X(DestroyObject) X(GetAttributeValue) X(FindObjectsInit) X(FindObjects)          \
  X(FindObjectsFinal) X(EncryptInit) X(Encrypt) X(DecryptInit) X(Decrypt) X(GenerateKey) X(GenerateRandom)

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  // The structure is a version and then nothing but functions (§3.6).
  void** functions = (void**)(void*)&table;
  for (size_t i = offsetof(CK_FUNCTION_LIST, C_Initialize) / sizeof *functions; i < sizeof table / sizeof *functions; ++i)
    functions[i] = (void*)client_unsupported;
  table.version = (CK_VERSION){2, 40};
#define SET(name) table.C_##name = (void*)client_##name;
  EACH(SET)
  *list = &table;
  return CKR_OK;
}
