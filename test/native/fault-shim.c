/*
 * A PKCS#11 module that loads another one and misbehaves as told. Test code, never shipped. Beside the shim lie:
 *
 *   <shim>.module   the path of the real module;
 *   <shim>.faults   read at every call, one rule a line: FUNCTION ACTION [ARGUMENT] [TIMES [EVERY]]
 *                     C_Encrypt fail 0x5        returns CKR_GENERAL_ERROR, every time
 *                     C_Encrypt flip - 1        flips a bit of the first output
 *                     C_Decrypt hang - 1        says so on the socket and waits until that is closed
 *                     handles swap              the two objects found last have each other's number from now on, as
 *                                               on a token that numbered them anew
 *                     C_Decrypt fail 0x5 -1 100 every hundredth call (TIMES < 0: without end)
 *                   FUNCTION may be * for all of them. Another content of the file counts anew;
 *   <shim>.socket   a unix socket, where a call that hangs connects and sends its name.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../native/pkcs11.h"

#define RULES_MAX 16
#define DEVICE_ERROR 0x30UL

static CK_FUNCTION_LIST table;
static CK_FUNCTION_LIST* real;
static char own_path[4096];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char last_faults[4096];
static long used[RULES_MAX];
static long seen[RULES_MAX];

enum action { NOTHING, FAIL, FLIP, HANG, SWAP };

static size_t read_beside(const char* suffix, char* text, size_t size) {
  char path[5000];
  snprintf(path, sizeof path, "%s.%s", own_path, suffix);
  FILE* file = fopen(path, "r");
  size_t bytes = 0;
  if (file != NULL) {
    bytes = fread(text, 1, size - 1, file);
    fclose(file);
  }
  text[bytes] = 0;
  return bytes;
}

static enum action fault(const char* function, CK_RV* rv) {
  char faults[sizeof last_faults];
  enum action action = NOTHING;
  pthread_mutex_lock(&mutex);
  read_beside("faults", faults, sizeof faults);
  if (strcmp(faults, last_faults) != 0) {
    strcpy(last_faults, faults);
    memset(used, 0, sizeof used);
    memset(seen, 0, sizeof seen);
  }
  char* rest = NULL;
  char* line = strtok_r(faults, "\n", &rest);
  for (int rule = 0; line != NULL && rule < RULES_MAX && action == NOTHING; ++rule) {
    char name[64] = "";
    char what[16] = "";
    char argument[32] = "";
    long times = -1;
    long every = 1;
    const int fields = sscanf(line, "%63s %15s %31s %ld %ld", name, what, argument, &times, &every);
    line = strtok_r(NULL, "\n", &rest);
    if (fields < 2 || (strcmp(name, "*") != 0 && strcmp(name, function) != 0)) continue;
    seen[rule] += 1;
    if (every > 1 && seen[rule] % every != 0) continue;
    if (times >= 0 && used[rule] >= times) continue;
    used[rule] += 1;
    if (strcmp(what, "fail") == 0) action = FAIL;
    if (strcmp(what, "flip") == 0) action = FLIP;
    if (strcmp(what, "hang") == 0) action = HANG;
    if (strcmp(what, "swap") == 0) action = SWAP;
    *rv = strtoul(argument, NULL, 0);
  }
  pthread_mutex_unlock(&mutex);
  return action;
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

/* Before the real call. Returns whether the call has failed already. */
static int before(const char* function, enum action* action, CK_RV* rv) {
  *action = fault(function, rv);
  if (*action == HANG) hang(function);
  return *action == FAIL;
}

static void after(enum action action, CK_RV rv, CK_BYTE* out, const CK_ULONG* bytes) {
  if (action == FLIP && rv == CKR_OK && out != NULL && *bytes > 0) out[0] ^= 1;
}

static CK_OBJECT_HANDLE found_last[2];

/* From the real number of an object to the one it goes by, and back. */
static CK_OBJECT_HANDLE renumbered(CK_OBJECT_HANDLE object) {
  CK_RV rv;
  if (fault("handles", &rv) != SWAP) return object;
  if (object == found_last[0]) return found_last[1];
  return object == found_last[1] ? found_last[0] : object;
}

#define WRAP(name, parameters, arguments)                      \
  static CK_RV shim_##name parameters {                        \
    enum action action;                                        \
    CK_RV rv = CKR_OK;                                         \
    if (before("C_" #name, &action, &rv)) return rv;           \
    return real->C_##name arguments;                           \
  }
#define WRAP_OUTPUT(name)                                                                                        \
  static CK_RV shim_##name(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes) { \
    enum action action;                                                                                          \
    CK_RV rv = CKR_OK;                                                                                           \
    if (before("C_" #name, &action, &rv)) {                                                                      \
      /* A failed call ends the operation that was begun. */                                                     \
      real->C_##name(s, in, bytes, out, out_bytes);                                                              \
      memset(out, 0, *out_bytes);                                                                                \
      return rv;                                                                                                 \
    }                                                                                                            \
    rv = real->C_##name(s, in, bytes, out, out_bytes);                                                           \
    after(action, rv, out, out_bytes);                                                                           \
    return rv;                                                                                                   \
  }

WRAP(OpenSession, (CK_SLOT_ID slot, CK_FLAGS flags, void* application, void* notify, CK_SESSION_HANDLE* session),
     (slot, flags, application, notify, session))
WRAP(CloseSession, (CK_SESSION_HANDLE s), (s))
WRAP(GetSessionInfo, (CK_SESSION_HANDLE s, CK_SESSION_INFO* info), (s, info))
WRAP(FindObjectsInit, (CK_SESSION_HANDLE s, CK_ATTRIBUTE* a, CK_ULONG n), (s, a, n))
static CK_RV shim_FindObjects(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE* o, CK_ULONG max, CK_ULONG* n) {
  enum action action;
  CK_RV rv = CKR_OK;
  if (before("C_FindObjects", &action, &rv)) return rv;
  rv = real->C_FindObjects(s, o, max, n);
  for (CK_ULONG i = 0; rv == CKR_OK && i < *n; ++i) {
    const CK_OBJECT_HANDLE object = o[i];
    o[i] = renumbered(object);
    if (o[i] != object || object == found_last[0]) continue;
    found_last[1] = found_last[0];
    found_last[0] = object;
  }
  return rv;
}
WRAP(FindObjectsFinal, (CK_SESSION_HANDLE s), (s))
WRAP(EncryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_OBJECT_HANDLE key), (s, m, renumbered(key)))
WRAP(DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_OBJECT_HANDLE key), (s, m, renumbered(key)))
WRAP(GenerateRandom, (CK_SESSION_HANDLE s, CK_BYTE* random, CK_ULONG bytes), (s, random, bytes))
WRAP(Finalize, (void* reserved), (reserved))
WRAP_OUTPUT(Encrypt)
WRAP_OUTPUT(Decrypt)

static CK_RV shim_GetFunctionList(CK_FUNCTION_LIST** list) {
  *list = &table;
  return CKR_OK;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  if (real == NULL) {
    Dl_info self;
    char module[4096];
    if (dladdr((void*)C_GetFunctionList, &self) == 0) return DEVICE_ERROR;
    strncpy(own_path, self.dli_fname, sizeof own_path - 1);
    read_beside("module", module, sizeof module);
    int flags = RTLD_NOW | RTLD_LOCAL;
#ifndef SHIM_WITHOUT_DEEPBIND
    flags |= RTLD_DEEPBIND;
#endif
    void* library = dlopen(module, flags);
    if (library == NULL) return DEVICE_ERROR;
    CK_RV (*get)(CK_FUNCTION_LIST**) = (CK_RV(*)(CK_FUNCTION_LIST**))dlsym(library, "C_GetFunctionList");
    if (get == NULL || get(&real) != CKR_OK) return DEVICE_ERROR;
    table = *real;
    table.C_GetFunctionList = shim_GetFunctionList;
    table.C_Finalize = shim_Finalize;
    table.C_OpenSession = shim_OpenSession;
    table.C_CloseSession = shim_CloseSession;
    table.C_GetSessionInfo = shim_GetSessionInfo;
    table.C_FindObjectsInit = shim_FindObjectsInit;
    table.C_FindObjects = shim_FindObjects;
    table.C_FindObjectsFinal = shim_FindObjectsFinal;
    table.C_EncryptInit = shim_EncryptInit;
    table.C_Encrypt = shim_Encrypt;
    table.C_DecryptInit = shim_DecryptInit;
    table.C_Decrypt = shim_Decrypt;
    table.C_GenerateRandom = shim_GenerateRandom;
  }
  *list = &table;
  return CKR_OK;
}
