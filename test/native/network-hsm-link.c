#define _GNU_SOURCE
#include "network-hsm-link.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

/* Of a session's number, what says which process of the server gave it. */
#define GENERATION_SHIFT 32

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_end;

static char server_path[SOCKET_PATH_BYTES_MAX + 1];
static CK_RV gone_rv = CKR_DEVICE_ERROR;
static int reconnects = 1;

/* Under the mutex: the process of the server that is ours. */
static int initialised;
static int application_fd = -1;
static char application_path[SOCKET_PATH_BYTES_MAX + 1];
/* Which one it is, counted from 1. */
static unsigned long generation;

/* A thread's own connection. */
struct connection {
  int fd;
  unsigned long generation;
  struct message message;
};
static __thread struct connection* own;

static void end_connection(void* connection) {
  const struct connection* ended = connection;
  if (ended->fd >= 0) close(ended->fd);
  free(connection);
}

static void read_configuration(void) {
  pthread_key_create(&thread_end, end_connection);
  Dl_info self;
  char path[4200];
  char gone[32] = "";
  char recovery[16] = "";
  if (dladdr((void*)read_configuration, &self) == 0) return;
  snprintf(path, sizeof path, "%s.network", self.dli_fname);
  FILE* file = fopen(path, "r");
  if (file == NULL) return;
  if (fscanf(file, "%107s %31s %15s", server_path, gone, recovery) == 3) {
    gone_rv = strtoul(gone, NULL, 0);
    reconnects = strcmp(recovery, "reconnect") == 0;
  }
  fclose(file);
}

static int connect_to(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr*)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

/* Under the mutex. A process of the server for us; @returns whether there is one. */
static int join_server(void) {
  static struct message hello;
  if (application_fd >= 0) return 1;
  const int fd = connect_to(server_path);
  if (fd < 0) return 0;
  size_t bytes = 0;
  const uint8_t* path = receive_message(fd, &hello) ? get_bytes(&hello, &bytes) : NULL;
  if (path == NULL || bytes > SOCKET_PATH_BYTES_MAX) {
    close(fd);
    return 0;
  }
  memcpy(application_path, path, bytes);
  application_path[bytes] = 0;
  application_fd = fd;
  ++generation;
  return 1;
}

static void leave_server(void) {
  if (application_fd >= 0) close(application_fd);
  application_fd = -1;
}

CK_RV link_initialize(void) {
  pthread_once(&once, read_configuration);
  pthread_mutex_lock(&mutex);
  CK_RV rv = CKR_CRYPTOKI_ALREADY_INITIALIZED;
  if (!initialised) {
    leave_server();
    rv = join_server() ? CKR_OK : gone_rv;
    initialised = rv == CKR_OK;
  }
  pthread_mutex_unlock(&mutex);
  return rv;
}

CK_RV link_finalize(void) {
  pthread_mutex_lock(&mutex);
  const CK_RV rv = initialised ? CKR_OK : CKR_CRYPTOKI_NOT_INITIALIZED;
  initialised = 0;
  leave_server();
  pthread_mutex_unlock(&mutex);
  return rv;
}

CK_SESSION_HANDLE session_of_application(CK_SESSION_HANDLE servers) {
  return own->generation << GENERATION_SHIFT | servers;
}

int session_of_server(CK_SESSION_HANDLE session, CK_SESSION_HANDLE* servers) {
  *servers = session & ((1UL << GENERATION_SHIFT) - 1);
  return session >> GENERATION_SHIFT == own->generation;
}

/* The server, or our process in it, has gone: whoever sees it first says so for all threads. */
static CK_RV lost(struct connection* connection) {
  if (connection->fd >= 0) close(connection->fd);
  connection->fd = -1;
  pthread_mutex_lock(&mutex);
  if (connection->generation == generation) leave_server();
  pthread_mutex_unlock(&mutex);
  return gone_rv;
}

struct message* begin_call(enum call call, CK_RV* rv) {
  if (own == NULL) {
    own = calloc(1, sizeof *own);
    if (own == NULL) {
      *rv = CKR_HOST_MEMORY;
      return NULL;
    }
    own->fd = -1;
    pthread_setspecific(thread_end, own);
  }
  char path[sizeof application_path];
  pthread_mutex_lock(&mutex);
  *rv = !initialised ? CKR_CRYPTOKI_NOT_INITIALIZED : CKR_OK;
  if (*rv == CKR_OK && application_fd < 0 && (!reconnects || !join_server())) *rv = gone_rv;
  const unsigned long now = generation;
  memcpy(path, application_path, sizeof path);
  pthread_mutex_unlock(&mutex);
  if (*rv != CKR_OK) return NULL;
  if (own->fd < 0 || own->generation != now) {
    if (own->fd >= 0) close(own->fd);
    own->generation = now;
    own->fd = connect_to(path);
    if (own->fd < 0) {
      *rv = lost(own);
      return NULL;
    }
  }
  begin_message(&own->message);
  put_number(&own->message, call);
  return &own->message;
}

CK_RV finish_call(struct message* message) {
  if (message->bad) return CKR_ARGUMENTS_BAD;
  if (!send_message(own->fd, message) || !receive_message(own->fd, message)) return lost(own);
  const CK_RV rv = get_number(message);
  return message->bad ? lost(own) : rv;
}
