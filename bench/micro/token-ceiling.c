/*
 * How many Encrypts with a verifying decrypt one session of a token makes in a second, by nothing but the calls: the
 * ceiling of whatever stands above it. 32 bytes of plaintext, 208 of AAD, IVs fetched 64 at a time.
 *
 *   token-ceiling MODULE LABEL PIN CKA_ID ROUNDS MILLISECONDS
 *
 * Prints the best round's encrypts per second.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../native/pkcs11.h"

#define SLOTS_MAX 16
#define ID_MAX 64
#define PLAINTEXT_BYTES 32
#define AAD_BYTES 208
#define IV_BYTES 12
#define IVS 64
#define TAG_BYTES 16
#define USER 1

static CK_FUNCTION_LIST* functions;

static void must(const char* what, CK_RV rv) {
  if (rv == CKR_OK) return;
  fprintf(stderr, "%s: 0x%lx\n", what, rv);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static CK_SLOT_ID find_slot(const char* label) {
  CK_SLOT_ID slots[SLOTS_MAX];
  CK_ULONG count = SLOTS_MAX;
  CK_RV (*get_slots)(CK_BYTE, CK_SLOT_ID*, CK_ULONG*) =
      (CK_RV(*)(CK_BYTE, CK_SLOT_ID*, CK_ULONG*))functions->C_GetSlotList;
  must("C_GetSlotList", get_slots(1, slots, &count));
  for (CK_ULONG i = 0; i < count; ++i) {
    CK_TOKEN_INFO info;
    must("C_GetTokenInfo", functions->C_GetTokenInfo(slots[i], &info));
    size_t bytes = sizeof info.label;
    while (bytes > 0 && info.label[bytes - 1] == ' ') --bytes;
    if (bytes == strlen(label) && memcmp(info.label, label, bytes) == 0) return slots[i];
  }
  fprintf(stderr, "no token %s\n", label);
  exit(1);
}

static CK_OBJECT_HANDLE find_key(CK_SESSION_HANDLE session, const char* hex) {
  CK_BYTE id[ID_MAX];
  CK_ULONG bytes = 0;
  for (; hex[2 * bytes] != 0 && bytes < ID_MAX; ++bytes) {
    unsigned int byte = 0;
    if (sscanf(hex + 2 * bytes, "%2x", &byte) != 1) break;
    id[bytes] = (CK_BYTE)byte;
  }
  CK_ULONG class = CKO_SECRET_KEY;
  CK_ATTRIBUTE attributes[] = {{CKA_CLASS, &class, sizeof class}, {CKA_ID, id, bytes}};
  CK_OBJECT_HANDLE key = 0;
  CK_ULONG found = 0;
  must("C_FindObjectsInit", functions->C_FindObjectsInit(session, attributes, 2));
  must("C_FindObjects", functions->C_FindObjects(session, &key, 1, &found));
  must("C_FindObjectsFinal", functions->C_FindObjectsFinal(session));
  if (found == 1) return key;
  fprintf(stderr, "no key %s\n", hex);
  exit(1);
}

static void encrypt_and_verify(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, CK_BYTE* iv) {
  static CK_BYTE plaintext[PLAINTEXT_BYTES];
  static CK_BYTE aad[AAD_BYTES];
  CK_BYTE sealed[PLAINTEXT_BYTES + TAG_BYTES];
  CK_BYTE opened[PLAINTEXT_BYTES + TAG_BYTES];
  CK_GCM_PARAMS gcm = {iv, IV_BYTES, IV_BYTES * 8, aad, AAD_BYTES, TAG_BYTES * 8};
  CK_MECHANISM mechanism = {CKM_AES_GCM, &gcm, sizeof gcm};
  CK_ULONG sealed_bytes = sizeof sealed;
  CK_ULONG opened_bytes = sizeof opened;
  must("C_EncryptInit", functions->C_EncryptInit(session, &mechanism, key));
  must("C_Encrypt", functions->C_Encrypt(session, plaintext, sizeof plaintext, sealed, &sealed_bytes));
  must("C_DecryptInit", functions->C_DecryptInit(session, &mechanism, key));
  must("C_Decrypt", functions->C_Decrypt(session, sealed, sealed_bytes, opened, &opened_bytes));
  if (opened_bytes == sizeof plaintext && memcmp(opened, plaintext, sizeof plaintext) == 0) return;
  fprintf(stderr, "another plaintext came back\n");
  exit(1);
}

int main(int count, char** arguments) {
  if (count != 7) return 2;
  void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  CK_RV (*get)(CK_FUNCTION_LIST**) =
      library == NULL ? NULL : (CK_RV(*)(CK_FUNCTION_LIST**))dlsym(library, "C_GetFunctionList");
  if (get == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  must("C_GetFunctionList", get(&functions));
  must("C_Initialize", functions->C_Initialize(NULL));
  CK_SESSION_HANDLE session;
  must("C_OpenSession", functions->C_OpenSession(find_slot(arguments[2]), CKF_SERIAL_SESSION, NULL, NULL, &session));
  must("C_Login", functions->C_Login(session, USER, (CK_BYTE*)arguments[3], strlen(arguments[3])));
  const CK_OBJECT_HANDLE key = find_key(session, arguments[4]);
  const double seconds = atof(arguments[6]) / 1000;
  double best = 0;
  for (int round = atoi(arguments[5]); round > 0; --round) {
    const double start = now();
    double elapsed = 0;
    long done = 0;
    while (elapsed < seconds) {
      CK_BYTE ivs[IVS * IV_BYTES];
      must("C_GenerateRandom", functions->C_GenerateRandom(session, ivs, sizeof ivs));
      for (int i = 0; i < IVS; ++i) encrypt_and_verify(session, key, ivs + i * IV_BYTES);
      done += IVS;
      elapsed = now() - start;
    }
    if ((double)done / elapsed > best) best = (double)done / elapsed;
  }
  printf("%.0f\n", best);
  functions->C_Finalize(NULL);
  return 0;
}
