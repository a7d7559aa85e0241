/*
 * The server half of the network HSM (network-hsm.h): network-hsm-server MODULE SOCKET. Prints a line once it listens.
 * Test code, never shipped.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/un.h>

#include "network-hsm.h"

static CK_FUNCTION_LIST* module;
static CK_RV initialised;

/* What a call needs besides the message, for as long as the connection lives: PKCS#11 lets a module look at a
 * mechanism's parameters until the operation has ended. */
struct client {
  int fd;
  struct message call;
  struct message answer;
  uint8_t iv[64];
  uint8_t aad[MESSAGE_BYTES_MAX];
  CK_GCM_PARAMS gcm;
  CK_MECHANISM mechanism;
  CK_ATTRIBUTE attributes[ATTRIBUTES_MAX];
  CK_ULONG list[LIST_MAX];
  uint8_t output[MESSAGE_BYTES_MAX];
};

static CK_ULONG get_attributes(struct client* client) {
  const CK_ULONG count = get_number(&client->call);
  if (count > ATTRIBUTES_MAX) client->call.bad = 1;
  for (CK_ULONG i = 0; i < count && !client->call.bad; ++i) {
    size_t bytes = 0;
    client->attributes[i].type = get_number(&client->call);
    client->attributes[i].pValue = get_bytes(&client->call, &bytes);
    client->attributes[i].ulValueLen = bytes;
  }
  return client->call.bad ? 0 : count;
}

static CK_MECHANISM* get_mechanism(struct client* client) {
  struct message* call = &client->call;
  size_t bytes = 0;
  client->mechanism = (CK_MECHANISM){.mechanism = get_number(call)};
  if (client->mechanism.mechanism != CKM_AES_GCM) {
    const uint8_t* parameter = get_bytes(call, &bytes);
    if (bytes > sizeof client->aad) call->bad = 1;
    if (call->bad || bytes == 0) return &client->mechanism;
    memcpy(client->aad, parameter, bytes);
    client->mechanism.pParameter = client->aad;
    client->mechanism.ulParameterLen = bytes;
    return &client->mechanism;
  }
  const uint8_t* iv = get_bytes(call, &bytes);
  if (bytes > sizeof client->iv) call->bad = 1;
  if (!call->bad) memcpy(client->iv, iv, bytes);
  client->gcm = (CK_GCM_PARAMS){.pIv = client->iv, .ulIvLen = bytes, .ulIvBits = get_number(call)};
  const uint8_t* aad = get_bytes(call, &bytes);
  if (!call->bad && bytes > 0) memcpy(client->aad, aad, bytes);
  client->gcm.pAAD = bytes == 0 ? NULL : client->aad;
  client->gcm.ulAADLen = bytes;
  client->gcm.ulTagBits = get_number(call);
  client->mechanism.pParameter = &client->gcm;
  client->mechanism.ulParameterLen = sizeof client->gcm;
  return &client->mechanism;
}

/* The answers. Results follow where they are worth something. */

static void answer(struct client* client, CK_RV rv) {
  begin_message(&client->answer);
  put_number(&client->answer, rv);
}

static void answer_number(struct client* client, CK_RV rv, CK_ULONG number) {
  answer(client, rv);
  put_number(&client->answer, number);
}

static void answer_structure(struct client* client, CK_RV rv, const void* structure, size_t bytes) {
  answer(client, rv);
  put_bytes(&client->answer, structure, bytes);
}

static void answer_list(struct client* client, CK_RV rv, int has_list, CK_ULONG count) {
  answer_number(client, rv, count);
  for (CK_ULONG i = 0; rv == CKR_OK && has_list && i < count; ++i) put_number(&client->answer, client->list[i]);
}

static CK_ULONG get_room(struct message* call, CK_ULONG max) {
  const CK_ULONG room = get_number(call);
  return room < max ? room : max;
}

typedef CK_RV (*transform)(CK_SESSION_HANDLE s, CK_BYTE* in, CK_ULONG bytes, CK_BYTE* out, CK_ULONG* out_bytes);

static void run_transform(struct client* client, transform run, CK_SESSION_HANDLE session) {
  size_t bytes = 0;
  uint8_t* in = get_bytes(&client->call, &bytes);
  const int has_output = get_number(&client->call) != 0;
  CK_ULONG out_bytes = get_room(&client->call, sizeof client->output);
  if (client->call.bad) return;
  const CK_RV rv = run(session, in, bytes, has_output ? client->output : NULL, &out_bytes);
  answer_number(client, rv, out_bytes);
  put_bytes(&client->answer, client->output, has_output && rv == CKR_OK ? out_bytes : 0);
}

static void get_attribute_values(struct client* client, CK_SESSION_HANDLE session) {
  struct message* call = &client->call;
  const CK_OBJECT_HANDLE object = get_number(call);
  const CK_ULONG count = get_number(call);
  size_t used = 0;
  if (count > ATTRIBUTES_MAX) call->bad = 1;
  for (CK_ULONG i = 0; i < count && !call->bad; ++i) {
    CK_ATTRIBUTE* attribute = &client->attributes[i];
    attribute->type = get_number(call);
    const int has_value = get_number(call) != 0;
    attribute->ulValueLen = get_room(call, sizeof client->output - used);
    attribute->pValue = has_value ? client->output + used : NULL;
    if (has_value) used += attribute->ulValueLen;
  }
  if (call->bad) return;
  answer(client, ((CK_C_GetAttributeValue)module->C_GetAttributeValue)(session, object, client->attributes, count));
  for (CK_ULONG i = 0; i < count; ++i) {
    const CK_ATTRIBUTE* attribute = &client->attributes[i];
    const int is_told = attribute->pValue != NULL && attribute->ulValueLen != CK_UNAVAILABLE_INFORMATION;
    put_number(&client->answer, attribute->ulValueLen);
    put_bytes(&client->answer, attribute->pValue, is_told ? attribute->ulValueLen : 0);
  }
}

static void on_session(struct client* client, enum call which) {
  struct message* call = &client->call;
  const CK_SESSION_HANDLE session = get_number(call);
  CK_ULONG number = 0;
  CK_ULONG count = 0;
  size_t bytes = 0;
  switch (which) {
    case CALL_CloseSession:
      return answer(client, module->C_CloseSession(session));
    case CALL_GetSessionInfo: {
      CK_SESSION_INFO info;
      memset(&info, 0, sizeof info);
      const CK_RV rv = module->C_GetSessionInfo(session, &info);
      return answer_structure(client, rv, &info, sizeof info);
    }
    case CALL_Login: {
      number = get_number(call);
      uint8_t* pin = get_bytes(call, &bytes);
      if (!call->bad) answer(client, module->C_Login(session, number, pin, bytes));
      return;
    }
    case CALL_Logout:
      return answer(client, module->C_Logout(session));
    case CALL_CreateObject: {
      count = get_attributes(client);
      if (call->bad) return;
      const CK_RV rv = module->C_CreateObject(session, client->attributes, count, &number);
      return answer_number(client, rv, number);
    }
    case CALL_DestroyObject:
      return answer(client, module->C_DestroyObject(session, get_number(call)));
    case CALL_GetAttributeValue:
      return get_attribute_values(client, session);
    case CALL_FindObjectsInit:
      count = get_attributes(client);
      if (!call->bad) answer(client, module->C_FindObjectsInit(session, client->attributes, count));
      return;
    case CALL_FindObjects: {
      const CK_RV rv = module->C_FindObjects(session, client->list, get_room(call, LIST_MAX), &count);
      return answer_list(client, rv, 1, count);
    }
    case CALL_FindObjectsFinal:
      return answer(client, module->C_FindObjectsFinal(session));
    case CALL_GenerateKey: {
      CK_MECHANISM* mechanism = get_mechanism(client);
      count = get_attributes(client);
      if (call->bad) return;
      const CK_C_GenerateKey generate = (CK_C_GenerateKey)module->C_GenerateKey;
      const CK_RV rv = generate(session, mechanism, client->attributes, count, &number);
      return answer_number(client, rv, number);
    }
    case CALL_EncryptInit:
    case CALL_DecryptInit: {
      CK_MECHANISM* mechanism = get_mechanism(client);
      number = get_number(call);
      if (call->bad) return;
      return answer(client, which == CALL_EncryptInit ? module->C_EncryptInit(session, mechanism, number)
                                                      : module->C_DecryptInit(session, mechanism, number));
    }
    case CALL_Encrypt:
      return run_transform(client, module->C_Encrypt, session);
    case CALL_Decrypt:
      return run_transform(client, module->C_Decrypt, session);
    case CALL_GenerateRandom: {
      count = get_room(call, sizeof client->output);
      const CK_RV rv = module->C_GenerateRandom(session, client->output, count);
      return answer_structure(client, rv, client->output, count);
    }
    default:
      call->bad = 1;
  }
}

static void carry_out(struct client* client) {
  struct message* call = &client->call;
  const enum call which = (enum call)get_number(call);
  if (initialised != CKR_OK) return answer(client, initialised);
  switch (which) {
    case CALL_GetInfo: {
      CK_INFO info;
      const CK_RV rv = ((CK_C_GetInfo)module->C_GetInfo)(&info);
      return answer_structure(client, rv, &info, sizeof info);
    }
    case CALL_GetSlotList: {
      const CK_BYTE token_present = (CK_BYTE)get_number(call);
      const int has_list = get_number(call) != 0;
      CK_ULONG count = get_room(call, LIST_MAX);
      const CK_C_GetSlotList list = (CK_C_GetSlotList)module->C_GetSlotList;
      const CK_RV rv = list(token_present, has_list ? client->list : NULL, &count);
      return answer_list(client, rv, has_list, count);
    }
    case CALL_GetMechanismList: {
      const CK_SLOT_ID slot = get_number(call);
      const int has_list = get_number(call) != 0;
      CK_ULONG count = get_room(call, LIST_MAX);
      const CK_C_GetMechanismList list = (CK_C_GetMechanismList)module->C_GetMechanismList;
      const CK_RV rv = list(slot, has_list ? client->list : NULL, &count);
      return answer_list(client, rv, has_list, count);
    }
    case CALL_GetSlotInfo: {
      CK_SLOT_INFO info;
      memset(&info, 0, sizeof info);
      const CK_RV rv = ((CK_C_GetSlotInfo)module->C_GetSlotInfo)(get_number(call), &info);
      return answer_structure(client, rv, &info, sizeof info);
    }
    case CALL_GetTokenInfo: {
      CK_TOKEN_INFO info;
      memset(&info, 0, sizeof info);
      const CK_RV rv = module->C_GetTokenInfo(get_number(call), &info);
      return answer_structure(client, rv, &info, sizeof info);
    }
    case CALL_GetMechanismInfo: {
      CK_MECHANISM_INFO info = {0, 0, 0};
      const CK_SLOT_ID slot = get_number(call);
      const CK_MECHANISM_TYPE mechanism = get_number(call);
      const CK_RV rv = ((CK_C_GetMechanismInfo)module->C_GetMechanismInfo)(slot, mechanism, &info);
      return answer_structure(client, rv, &info, sizeof info);
    }
    case CALL_OpenSession: {
      const CK_SLOT_ID slot = get_number(call);
      CK_SESSION_HANDLE session = 0;
      const CK_RV rv = module->C_OpenSession(slot, get_number(call), NULL, NULL, &session);
      return answer_number(client, rv, session);
    }
    case CALL_CloseAllSessions:
      return answer(client, module->C_CloseAllSessions(get_number(call)));
    default:
      return on_session(client, which);
  }
}

static void* serve(void* argument) {
  struct client* client = argument;
  while (receive_message(client->fd, &client->call)) {
    begin_message(&client->answer);
    carry_out(client);
    // A malformed call leaves no answer: the other half is not ours.
    if (client->call.bad || client->answer.bad || client->answer.size == 0) break;
    if (!send_message(client->fd, &client->answer)) break;
  }
  close(client->fd);
  free(client);
  return NULL;
}

static int listen_at(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  unlink(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr*)&address, sizeof address) != 0 || listen(fd, 256) != 0) {
    perror("network-hsm-server");
    exit(1);
  }
  return fd;
}

/* The application's first connection says nothing more; when it ends, so do we, with its sessions. */
static void* await_end(void* argument) {
  char byte;
  const int* application = argument;
  while (read(*application, &byte, 1) > 0) continue;
  exit(0);
}

static int load_module(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return 0;
  CK_RV (*get)(CK_FUNCTION_LIST**) = (CK_RV(*)(CK_FUNCTION_LIST**))dlsym(library, "C_GetFunctionList");
  return get != NULL && get(&module) == CKR_OK;
}

static void start_thread(void* (*run)(void*), void* argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run, argument) != 0) exit(1);
  pthread_detach(thread);
}

static void serve_application(int application, const char* module_path, const char* server_path) {
  static struct message hello;
  static int first;
  char path[SOCKET_PATH_BYTES_MAX + 1];
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  snprintf(path, sizeof path, "%.90s.%d", server_path, (int)getpid());
  const int listener = listen_at(path);
  if (!load_module(module_path)) exit(1);
  CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
  initialised = module->C_Initialize(&args);
  begin_message(&hello);
  put_bytes(&hello, path, strlen(path));
  if (!send_message(application, &hello)) exit(1);
  first = application;
  start_thread(await_end, &first);
  for (;;) {
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) continue;
    struct client* client = calloc(1, sizeof *client);
    if (client == NULL) exit(1);
    client->fd = fd;
    start_thread(serve, client);
  }
}

int main(int count, char** arguments) {
  if (count != 3) return 2;
  signal(SIGCHLD, SIG_IGN);
  // Not left behind by a test that was killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int listener = listen_at(arguments[2]);
  puts("listening");
  fflush(stdout);
  for (;;) {
    const int application = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (application < 0) continue;
    if (fork() == 0) {
      close(listener);
      serve_application(application, arguments[1], arguments[2]);
    }
    close(application);
  }
}
