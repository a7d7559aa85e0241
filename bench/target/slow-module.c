/*
 * A PKCS#11 module for benchmarks that loads another one and puts a network's round trip, or nothing at all, in its
 * place. The environment tells what:
 *
 *   XKSD_BENCH_MODULE        the path of the real module;
 *   XKSD_BENCH_DELAY_MICROS  how much longer each call of the data path takes: on a session, and opening one;
 *   XKSD_BENCH_EMPTY         encrypt and decrypt copy their input and make no call: the cost of getting there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../native/pkcs11.h"

#define CKR_DEVICE_ERROR 0x30UL
#define TAG_BYTES 16

static CK_FUNCTION_LIST table;
static CK_FUNCTION_LIST* real;
static struct timespec delay;

static void wait_out(void) {
  if (delay.tv_sec == 0 && delay.tv_nsec == 0) return;
  struct timespec rest = delay;
  while (nanosleep(&rest, &rest) != 0) continue;
}

#define SLOW(name, parameters, arguments)   \
  static CK_RV slow_##name parameters {     \
    wait_out();                             \
    return real->C_##name arguments;        \
  }

SLOW(OpenSession, (CK_SLOT_ID slot, CK_FLAGS flags, void* application, void* notify, CK_SESSION_HANDLE* session),
     (slot, flags, application, notify, session))
SLOW(CloseSession, (CK_SESSION_HANDLE s), (s))
SLOW(GetSessionInfo, (CK_SESSION_HANDLE s, CK_SESSION_INFO* info), (s, info))
SLOW(FindObjectsInit, (CK_SESSION_HANDLE s, CK_ATTRIBUTE* a, CK_ULONG n), (s, a, n))
SLOW(FindObjects, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE* o, CK_ULONG max, CK_ULONG* n), (s, o, max, n))
SLOW(FindObjectsFinal, (CK_SESSION_HANDLE s), (s))
SLOW(EncryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_OBJECT_HANDLE key), (s, m, key))
SLOW(Encrypt, (CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes),
     (s, in, bytes, out, out_bytes))
SLOW(DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_OBJECT_HANDLE key), (s, m, key))
SLOW(Decrypt, (CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes),
     (s, in, bytes, out, out_bytes))
SLOW(GenerateRandom, (CK_SESSION_HANDLE s, CK_BYTE* random, CK_ULONG bytes), (s, random, bytes))

static CK_RV empty_Init(CK_SESSION_HANDLE s, CK_MECHANISM* m, CK_OBJECT_HANDLE key) {
  (void)s;
  (void)m;
  (void)key;
  return CKR_OK;
}

static CK_RV empty_Encrypt(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes) {
  (void)s;
  if (*out_bytes < bytes + TAG_BYTES) return CKR_DEVICE_ERROR;
  memmove(out, in, bytes);
  memset(out + bytes, 0, TAG_BYTES);
  *out_bytes = bytes + TAG_BYTES;
  return CKR_OK;
}

static CK_RV empty_Decrypt(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes) {
  (void)s;
  if (bytes < TAG_BYTES || *out_bytes < bytes - TAG_BYTES) return CKR_DEVICE_ERROR;
  memmove(out, in, bytes - TAG_BYTES);
  *out_bytes = bytes - TAG_BYTES;
  return CKR_OK;
}

static CK_RV slow_GetFunctionList(CK_FUNCTION_LIST** list) {
  *list = &table;
  return CKR_OK;
}

static void fill_table(void) {
  table = *real;
  table.C_GetFunctionList = slow_GetFunctionList;
  table.C_OpenSession = slow_OpenSession;
  table.C_CloseSession = slow_CloseSession;
  table.C_GetSessionInfo = slow_GetSessionInfo;
  table.C_FindObjectsInit = slow_FindObjectsInit;
  table.C_FindObjects = slow_FindObjects;
  table.C_FindObjectsFinal = slow_FindObjectsFinal;
  table.C_EncryptInit = slow_EncryptInit;
  table.C_Encrypt = slow_Encrypt;
  table.C_DecryptInit = slow_DecryptInit;
  table.C_Decrypt = slow_Decrypt;
  table.C_GenerateRandom = slow_GenerateRandom;
  if (getenv("XKSD_BENCH_EMPTY") == NULL) return;
  table.C_EncryptInit = empty_Init;
  table.C_Encrypt = empty_Encrypt;
  table.C_DecryptInit = empty_Init;
  table.C_Decrypt = empty_Decrypt;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  if (real == NULL) {
    const char* micros = getenv("XKSD_BENCH_DELAY_MICROS");
    const long total = micros == NULL ? 0 : atol(micros);
    delay.tv_sec = total / 1000000;
    delay.tv_nsec = total % 1000000 * 1000;
    const char* module = getenv("XKSD_BENCH_MODULE");
    void* library = module == NULL ? NULL : dlopen(module, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (library == NULL) return CKR_DEVICE_ERROR;
    CK_RV (*get)(CK_FUNCTION_LIST**) = (CK_RV(*)(CK_FUNCTION_LIST**))dlsym(library, "C_GetFunctionList");
    if (get == NULL || get(&real) != CKR_OK) return CKR_DEVICE_ERROR;
    fill_table();
  }
  *list = &table;
  return CKR_OK;
}
