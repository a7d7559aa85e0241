/*
 * A network HSM in two halves, and what goes between them over unix sockets.
 *
 *   network-hsm-client.c  a PKCS#11 module that passes every call on. A thread has a connection of its own and waits
 *                         for each answer, as long as it takes.
 *   network-hsm-server.c  loads the real module. One process takes applications in and forks another for each, which
 *                         is alone with the module: an application's login and sessions are its own (PKCS#11 v2.40
 *                         §5.6), and go with it.
 *
 * An application connects to the server's socket and is told the path of its own process's; it keeps that first
 * connection for as long as it lives. A call is a number of the list below and its arguments, an answer the CK_RV and
 * the results, each behind its length; integers are 8 bytes, and byte strings have their length before them. Both halves
 * are on one machine, so structures travel as they lie in memory.
 */
#ifndef XKSD_TEST_NETWORK_HSM_H
#define XKSD_TEST_NETWORK_HSM_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pkcs11-more.h"

enum call {
  CALL_GetInfo = 1,
  CALL_GetSlotList,
  CALL_GetSlotInfo,
  CALL_GetTokenInfo,
  CALL_GetMechanismList,
  CALL_GetMechanismInfo,
  CALL_OpenSession,
  CALL_CloseSession,
  CALL_CloseAllSessions,
  CALL_GetSessionInfo,
  CALL_Login,
  CALL_Logout,
  CALL_CreateObject,
  CALL_DestroyObject,
  CALL_GetAttributeValue,
  CALL_FindObjectsInit,
  CALL_FindObjects,
  CALL_FindObjectsFinal,
  CALL_EncryptInit,
  CALL_Encrypt,
  CALL_DecryptInit,
  CALL_Decrypt,
  CALL_GenerateKey,
  CALL_GenerateRandom,
};

#define MESSAGE_BYTES_MAX 131072U
#define ATTRIBUTES_MAX 32U
/* Slots, mechanisms or objects in one answer. */
#define LIST_MAX 1024U
#define SOCKET_PATH_BYTES_MAX 107U

/* A message being written or read. `bad` once it was longer than allowed, or shorter than what was asked of it. */
struct message {
  uint8_t bytes[MESSAGE_BYTES_MAX];
  size_t size;
  size_t at;
  int bad;
};

static inline void begin_message(struct message* message) {
  message->size = 0;
  message->at = 0;
  message->bad = 0;
}

static inline void put(struct message* message, const void* bytes, size_t count) {
  if (message->bad || count > sizeof message->bytes - message->size) {
    message->bad = 1;
    return;
  }
  if (count > 0) memcpy(message->bytes + message->size, bytes, count);
  message->size += count;
}

static inline void put_number(struct message* message, uint64_t number) { put(message, &number, sizeof number); }

static inline void put_bytes(struct message* message, const void* bytes, size_t count) {
  put_number(message, count);
  put(message, bytes, count);
}

/* @returns where the bytes lie in the message, NULL when there are not so many. */
static inline uint8_t* get(struct message* message, size_t count) {
  if (message->bad || count > message->size - message->at) {
    message->bad = 1;
    return NULL;
  }
  uint8_t* bytes = message->bytes + message->at;
  message->at += count;
  return bytes;
}

static inline uint64_t get_number(struct message* message) {
  uint64_t number = 0;
  const uint8_t* bytes = get(message, sizeof number);
  if (bytes != NULL) memcpy(&number, bytes, sizeof number);
  return number;
}

static inline uint8_t* get_bytes(struct message* message, size_t* count) {
  *count = get_number(message);
  uint8_t* bytes = get(message, *count);
  if (bytes == NULL) *count = 0;
  return bytes;
}

/* A structure of `count` bytes; nothing is written when the message has another. */
static inline void get_structure(struct message* message, void* structure, size_t count) {
  size_t sent = 0;
  const uint8_t* bytes = get_bytes(message, &sent);
  if (bytes == NULL || sent != count) {
    message->bad = 1;
  } else {
    memcpy(structure, bytes, count);
  }
}

static inline int write_all(int fd, const void* bytes, size_t count) {
  const uint8_t* from = bytes;
  while (count > 0) {
    const ssize_t written = send(fd, from, count, MSG_NOSIGNAL);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return 0;
    from += written;
    count -= (size_t)written;
  }
  return 1;
}

static inline int read_all(int fd, void* bytes, size_t count) {
  uint8_t* to = bytes;
  while (count > 0) {
    const ssize_t got = read(fd, to, count);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    to += got;
    count -= (size_t)got;
  }
  return 1;
}

/* @returns 0 when the other half is gone. The length and the rest go in one write: a round trip is two system calls. */
static inline int send_message(int fd, const struct message* message) {
  uint8_t framed[sizeof(uint32_t) + MESSAGE_BYTES_MAX];
  const uint32_t size = (uint32_t)message->size;
  memcpy(framed, &size, sizeof size);
  memcpy(framed + sizeof size, message->bytes, message->size);
  return write_all(fd, framed, sizeof size + message->size);
}

static inline int receive_message(int fd, struct message* message) {
  uint32_t size = 0;
  begin_message(message);
  if (!read_all(fd, &size, sizeof size) || size > sizeof message->bytes) return 0;
  message->size = size;
  return read_all(fd, message->bytes, size);
}

#endif
