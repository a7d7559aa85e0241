/*
 * A PKCS#11 module that loads another one and misbehaves as told. Test code, never shipped. Beside the shim lie:
 *
 *   <shim>.module   the path of the real module;
 *   <shim>.faults   what it shall do (fault-rules.h);
 *   <shim>.socket   a unix socket, where a call that hangs connects and sends its name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fault-rules.h"
#include "iv-modes.h"

#define PATH_BYTES_MAX 4096
#define SLOTS_MAX 16

static CK_FUNCTION_LIST table;
static CK_FUNCTION_LIST* real;
static char own_path[PATH_BYTES_MAX];

/* Held by every real call on a session; alone by what takes sessions from under them, which not every module bears. */
static pthread_rwlock_t sessions_lock = PTHREAD_RWLOCK_INITIALIZER;
static unsigned long removal_seen;

/* The object of the operation that this thread has begun. */
static __thread struct {
  CK_SESSION_HANDLE session;
  int known;
  struct object object;
} begun;

static void read_beside(const char* suffix, char* text, size_t size) {
  char path[PATH_BYTES_MAX + 16];
  snprintf(path, sizeof path, "%s.%s", own_path, suffix);
  FILE* file = fopen(path, "r");
  size_t bytes = 0;
  if (file != NULL) {
    bytes = fread(text, 1, size - 1, file);
    fclose(file);
  }
  text[bytes] = 0;
}

/* Tells the test, and waits for its word. */
static void hang(const char* function) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%.90s.socket", own_path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  char byte;
  if (connect(fd, (struct sockaddr*)&address, sizeof address) == 0 &&
      write(fd, function, strlen(function)) == (ssize_t)strlen(function)) {
    while (read(fd, &byte, 1) > 0) continue;
  }
  close(fd);
}

static void wait_out(unsigned long micros) {
  /* Otherwise each wait is 50 us longer, which makes a slowed token another one than was asked for. */
  if (micros > 0) prctl(PR_SET_TIMERSLACK, 1UL);
  struct timespec rest = {(time_t)(micros / 1000000), (long)(micros % 1000000) * 1000};
  while (micros > 0 && nanosleep(&rest, &rest) != 0) continue;
}

static void close_all_sessions(void) {
  CK_SLOT_ID slots[SLOTS_MAX];
  CK_ULONG count = SLOTS_MAX;
  pthread_rwlock_wrlock(&sessions_lock);
  if (((CK_C_GetSlotList)real->C_GetSlotList)(1, slots, &count) == CKR_OK)
    for (CK_ULONG i = 0; i < count; ++i) real->C_CloseAllSessions(slots[i]);
  pthread_rwlock_unlock(&sessions_lock);
}

static void log_out(CK_SESSION_HANDLE session) {
  pthread_rwlock_wrlock(&sessions_lock);
  real->C_Logout(session);
  pthread_rwlock_unlock(&sessions_lock);
}

static int is_of_operation(const char* function) {
  return strncmp(function, "C_Encrypt", 9) == 0 || strncmp(function, "C_Decrypt", 9) == 0;
}

/* Before the real call. `session`: 0 for none. @returns what the call is to return at once, CKR_OK to go on. */
static CK_RV before(const char* function, CK_SESSION_HANDLE session, struct fault* fault) {
  const int is_about_object = begun.known && begun.session == session && is_of_operation(function);
  *fault = fault_in(function, is_about_object ? &begun.object : NULL);
  wait_out(fault->delay_micros);
  switch (fault->action) {
    case HANG:
      hang(function);
      break;
    case SIGNAL:
      raise((int)fault->argument);
      break;
    case CLOSE_SESSIONS:
      close_all_sessions();
      break;
    case LOGOUT:
      if (session != 0) log_out(session);
      break;
    default:
      break;
  }
  if (fault->removal != 0 && __atomic_exchange_n(&removal_seen, fault->removal, __ATOMIC_ACQ_REL) != fault->removal)
    close_all_sessions();
  if (fault->action == FAIL) return fault->argument;
  return fault->removal != 0 && session != 0 ? CKR_DEVICE_REMOVED : CKR_OK;
}

static CK_OBJECT_HANDLE found_last[2];

/* From the real number of an object to the one it goes by, and back. */
static CK_OBJECT_HANDLE renumbered(CK_OBJECT_HANDLE object, const struct fault* fault) {
  if (!fault->handles_swapped) return object;
  if (object == found_last[0]) return found_last[1];
  return object == found_last[1] ? found_last[0] : object;
}

/* Keeps which object an operation is about, for the rules that ask. */
static void remember(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key) {
  begun.known = 0;
  if (!rules_know_objects()) return;
  const CK_C_GetAttributeValue get = (CK_C_GetAttributeValue)real->C_GetAttributeValue;
  memset(&begun.object, 0, sizeof begun.object);
  CK_ATTRIBUTE id = {CKA_ID, begun.object.id, sizeof begun.object.id};
  CK_ATTRIBUTE label = {CKA_LABEL, begun.object.label, OBJECT_LABEL_BYTES_MAX};
  if (get(session, key, &id, 1) == CKR_OK) begun.object.id_bytes = id.ulValueLen;
  if (get(session, key, &label, 1) != CKR_OK) begun.object.label[0] = 0;
  begun.session = session;
  begun.known = 1;
}

#define CALL(rv, expression)               \
  do {                                     \
    pthread_rwlock_rdlock(&sessions_lock); \
    rv = expression;                       \
    pthread_rwlock_unlock(&sessions_lock); \
  } while (0)

/* Of a function without more to it. `session`: 0 where it has none. */
#define WRAP(name, session, type, parameters, arguments)               \
  static CK_RV shim_##name parameters {                                \
    struct fault fault;                                                \
    CK_RV rv = before("C_" #name, session, &fault);                    \
    if (rv == CKR_OK) CALL(rv, ((type)(real->C_##name)) arguments);    \
    return rv;                                                         \
  }
/* Of one on a slot, where a token is missed in another way. */
#define WRAP_SLOT(name, type, parameters, arguments)                   \
  static CK_RV shim_##name parameters {                                \
    struct fault fault;                                                \
    CK_RV rv = before("C_" #name, 0, &fault);                          \
    if (rv == CKR_OK && fault.removal != 0) rv = CKR_TOKEN_NOT_PRESENT; \
    if (rv == CKR_OK) CALL(rv, ((type)(real->C_##name)) arguments);    \
    return rv;                                                         \
  }
#define SAME(name) __typeof__(real->C_##name)

WRAP(Initialize, 0, SAME(Initialize), (void* args), (args))
WRAP(Finalize, 0, SAME(Finalize), (void* reserved), (reserved))
WRAP_SLOT(GetTokenInfo, SAME(GetTokenInfo), (CK_SLOT_ID slot, CK_TOKEN_INFO* info), (slot, info))
WRAP_SLOT(GetMechanismInfo, CK_C_GetMechanismInfo,
          (CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism, CK_MECHANISM_INFO* info), (slot, mechanism, info))
WRAP_SLOT(OpenSession, SAME(OpenSession),
          (CK_SLOT_ID slot, CK_FLAGS flags, void* application, void* notify, CK_SESSION_HANDLE* session),
          (slot, flags, application, notify, session))
WRAP(CloseSession, s, SAME(CloseSession), (CK_SESSION_HANDLE s), (s))
WRAP(GetSessionInfo, s, SAME(GetSessionInfo), (CK_SESSION_HANDLE s, CK_SESSION_INFO* info), (s, info))
WRAP(Login, s, SAME(Login), (CK_SESSION_HANDLE s, CK_ULONG user, CK_BYTE* pin, CK_ULONG bytes), (s, user, pin, bytes))
WRAP(Logout, s, SAME(Logout), (CK_SESSION_HANDLE s), (s))
WRAP(CreateObject, s, SAME(CreateObject),
     (CK_SESSION_HANDLE s, CK_ATTRIBUTE* a, CK_ULONG n, CK_OBJECT_HANDLE* object), (s, a, n, object))
WRAP(DestroyObject, s, SAME(DestroyObject), (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object), (s, object))
WRAP(GetAttributeValue, s, CK_C_GetAttributeValue,
     (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE* a, CK_ULONG n),
     (s, renumbered(object, &fault), a, n))
WRAP(GenerateKey, s, CK_C_GenerateKey,
     (CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_ATTRIBUTE* a, CK_ULONG n, CK_OBJECT_HANDLE* key), (s, m, a, n, key))
WRAP(FindObjectsInit, s, SAME(FindObjectsInit), (CK_SESSION_HANDLE s, CK_ATTRIBUTE* a, CK_ULONG n), (s, a, n))
WRAP(FindObjectsFinal, s, SAME(FindObjectsFinal), (CK_SESSION_HANDLE s), (s))
WRAP(GenerateRandom, s, SAME(GenerateRandom), (CK_SESSION_HANDLE s, CK_BYTE* random, CK_ULONG bytes),
     (s, random, bytes))

static CK_RV shim_CloseAllSessions(CK_SLOT_ID slot) {
  struct fault fault;
  CK_RV rv = before("C_CloseAllSessions", 0, &fault);
  if (rv != CKR_OK) return rv;
  pthread_rwlock_wrlock(&sessions_lock);
  rv = real->C_CloseAllSessions(slot);
  pthread_rwlock_unlock(&sessions_lock);
  return rv;
}

static CK_RV shim_GetSlotList(CK_BYTE token_present, CK_SLOT_ID* slots, CK_ULONG* count) {
  struct fault fault;
  CK_RV rv = before("C_GetSlotList", 0, &fault);
  if (rv != CKR_OK) return rv;
  if (fault.removal != 0 && token_present) {
    *count = 0;
    return CKR_OK;
  }
  CALL(rv, ((CK_C_GetSlotList)real->C_GetSlotList)(token_present, slots, count));
  return rv;
}

static CK_RV shim_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO* info) {
  struct fault fault;
  CK_RV rv = before("C_GetSlotInfo", 0, &fault);
  if (rv != CKR_OK) return rv;
  CALL(rv, ((CK_C_GetSlotInfo)real->C_GetSlotInfo)(slot, info));
  if (rv == CKR_OK && fault.removal != 0) info->flags &= ~CKF_TOKEN_PRESENT;
  return rv;
}

static CK_RV shim_FindObjects(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE* o, CK_ULONG max, CK_ULONG* n) {
  struct fault fault;
  CK_RV rv = before("C_FindObjects", s, &fault);
  if (rv != CKR_OK) return rv;
  CALL(rv, real->C_FindObjects(s, o, max, n));
  for (CK_ULONG i = 0; rv == CKR_OK && i < *n; ++i) {
    const CK_OBJECT_HANDLE object = o[i];
    o[i] = renumbered(object, &fault);
    if (o[i] != object || object == found_last[0]) continue;
    found_last[1] = found_last[0];
    found_last[0] = object;
  }
  return rv;
}

static CK_RV shim_EncryptInit(CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_OBJECT_HANDLE key) {
  struct fault fault;
  remember(s, key);
  CK_RV rv = before("C_EncryptInit", s, &fault);
  if (rv == CKR_OK) CALL(rv, iv_encrypt_init(real, &fault, s, m, renumbered(key, &fault)));
  return rv;
}

static CK_RV shim_DecryptInit(CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_OBJECT_HANDLE key) {
  struct fault fault;
  remember(s, key);
  CK_RV rv = before("C_DecryptInit", s, &fault);
  if (rv == CKR_OK) CALL(rv, iv_decrypt_init(real, &fault, s, m, renumbered(key, &fault)));
  return rv;
}

typedef CK_RV (*transform)(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes);

static CK_RV real_Encrypt(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes) {
  return iv_encrypt(real, s, in, bytes, out, out_bytes);
}

static CK_RV run_transform(const char* function, transform call, CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes,
                           CK_BYTE* out, CK_ULONG* out_bytes) {
  struct fault fault;
  const CK_RV told = before(function, s, &fault);
  begun.known = 0;
  CK_RV rv;
  // Also where it fails: a failed call ends the operation that was begun.
  CALL(rv, call(s, in, bytes, out, out_bytes));
  if (told != CKR_OK) {
    if (out != NULL) memset(out, 0, *out_bytes);
    return told;
  }
  if (rv != CKR_OK && fault.bad_tag != 0 && strcmp(function, "C_Decrypt") == 0) return fault.bad_tag;
  if (fault.action == FLIP && rv == CKR_OK && out != NULL && *out_bytes > 0) out[0] ^= 1;
  return rv;
}

static CK_RV shim_Encrypt(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes) {
  return run_transform("C_Encrypt", real_Encrypt, s, in, bytes, out, out_bytes);
}

static CK_RV shim_Decrypt(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes) {
  return run_transform("C_Decrypt", real->C_Decrypt, s, in, bytes, out, out_bytes);
}

static CK_RV shim_GetFunctionList(CK_FUNCTION_LIST** list) {
  *list = &table;
  return CKR_OK;
}

static void fill_table(void) {
  table = *real;
  table.C_GetFunctionList = shim_GetFunctionList;
  table.C_Initialize = shim_Initialize;
  table.C_Finalize = shim_Finalize;
  table.C_GetSlotList = (void*)shim_GetSlotList;
  table.C_GetSlotInfo = (void*)shim_GetSlotInfo;
  table.C_GetTokenInfo = shim_GetTokenInfo;
  table.C_GetMechanismInfo = (void*)shim_GetMechanismInfo;
  table.C_OpenSession = shim_OpenSession;
  table.C_CloseSession = shim_CloseSession;
  table.C_CloseAllSessions = shim_CloseAllSessions;
  table.C_GetSessionInfo = shim_GetSessionInfo;
  table.C_Login = shim_Login;
  table.C_Logout = shim_Logout;
  table.C_CreateObject = shim_CreateObject;
  table.C_DestroyObject = shim_DestroyObject;
  table.C_GetAttributeValue = (void*)shim_GetAttributeValue;
  table.C_GenerateKey = (void*)shim_GenerateKey;
  table.C_FindObjectsInit = shim_FindObjectsInit;
  table.C_FindObjects = shim_FindObjects;
  table.C_FindObjectsFinal = shim_FindObjectsFinal;
  table.C_EncryptInit = shim_EncryptInit;
  table.C_Encrypt = shim_Encrypt;
  table.C_DecryptInit = shim_DecryptInit;
  table.C_Decrypt = shim_Decrypt;
  table.C_GenerateRandom = shim_GenerateRandom;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  if (real == NULL) {
    Dl_info self;
    char module[PATH_BYTES_MAX];
    char rules[PATH_BYTES_MAX + 16];
    if (dladdr((void*)C_GetFunctionList, &self) == 0) return CKR_DEVICE_ERROR;
    strncpy(own_path, self.dli_fname, sizeof own_path - 1);
    snprintf(rules, sizeof rules, "%s.faults", own_path);
    rules_open(rules);
    read_beside("module", module, sizeof module);
    int flags = RTLD_NOW | RTLD_LOCAL;
#ifndef SHIM_WITHOUT_DEEPBIND
    flags |= RTLD_DEEPBIND;
#endif
    void* library = dlopen(module, flags);
    if (library == NULL) return CKR_DEVICE_ERROR;
    CK_RV (*get)(CK_FUNCTION_LIST**) = (CK_RV(*)(CK_FUNCTION_LIST**))dlsym(library, "C_GetFunctionList");
    CK_FUNCTION_LIST* functions = NULL;
    if (get == NULL || get(&functions) != CKR_OK) return CKR_DEVICE_ERROR;
    real = functions;
    fill_table();
  }
  *list = &table;
  return CKR_OK;
}
