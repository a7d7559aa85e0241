// What Node has no words for: systemd's notification socket, listening sockets as plain descriptors, flock, peer
// credentials, the parent-death signal, the boot clock. Nothing here keeps state, so any thread may call it.
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <string>

namespace xksd {
namespace {

int IntegerArgument(const Napi::CallbackInfo& info, size_t position, const char* name) {
  if (info.Length() <= position || !info[position].IsNumber()) {
    throw Napi::TypeError::New(info.Env(), std::string(name) + " must be a number");
  }
  return info[position].As<Napi::Number>().Int32Value();
}

std::string StringArgument(const Napi::CallbackInfo& info, size_t position, const char* name) {
  if (info.Length() <= position || !info[position].IsString()) {
    throw Napi::TypeError::New(info.Env(), std::string(name) + " must be a string");
  }
  return info[position].As<Napi::String>().Utf8Value();
}

Napi::Value Number(const Napi::CallbackInfo& info, double value) {
  return Napi::Number::New(info.Env(), value);
}

int SendNotification(const std::string& path, const std::string& message) {
  sockaddr_un address;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  // sd_notify(3): an absolute path, or `@` for the abstract namespace. An abstract name is not terminated, so it may
  // fill sun_path; a file's path needs its NUL.
  const bool abstract = !path.empty() && path[0] == '@';
  if (path.empty() || (!abstract && path[0] != '/')) return EAFNOSUPPORT;
  if (path.size() > sizeof address.sun_path - (abstract ? 0 : 1)) return ENAMETOOLONG;
  memcpy(address.sun_path, path.data(), path.size());
  if (abstract) address.sun_path[0] = '\0';
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));

  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  ssize_t sent;
  do {
    // Never waits: a service manager that does not read must not hold up the supervisor's loop.
    sent = sendto(fd, message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                  reinterpret_cast<const sockaddr*>(&address), length);
  } while (sent < 0 && errno == EINTR);
  const int error = sent < 0 ? errno : 0;
  close(fd);
  return error;
}

Napi::Value SdNotify(const Napi::CallbackInfo& info) {
  return Number(info, SendNotification(StringArgument(info, 0, "socketPath"), StringArgument(info, 1, "message")));
}

int ListenOnTcp(const std::string& host, int port, int backlog) {
  if (port < 0 || port > 65535) return -EINVAL;
  addrinfo hints;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  // A literal only: no resolver between a configuration file and a listening socket.
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return -EINVAL;

  // Non-blocking from the start: the flag belongs to the open socket, which all serving processes share.
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
  int error = fd < 0 ? errno : 0;
  const int on = 1;
  const int off = 0;
  if (error == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) error = errno;
  // `[::]` takes IPv4 as well, as Node and systemd do by default, whatever net.ipv6.bindv6only says.
  if (error == 0 && found->ai_family == AF_INET6 &&
      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0) {
    error = errno;
  }
  if (error == 0 && bind(fd, found->ai_addr, found->ai_addrlen) != 0) error = errno;
  if (error == 0 && listen(fd, backlog) != 0) error = errno;
  freeaddrinfo(found);
  if (error == 0) return fd;
  if (fd >= 0) close(fd);
  return -error;
}

Napi::Value BindTcp(const Napi::CallbackInfo& info) {
  return Number(info, ListenOnTcp(StringArgument(info, 0, "address"), IntegerArgument(info, 1, "port"),
                                  IntegerArgument(info, 2, "backlog")));
}

Napi::Value BoundPort(const Napi::CallbackInfo& info) {
  sockaddr_storage address;
  socklen_t length = sizeof address;
  memset(&address, 0, sizeof address);
  if (getsockname(IntegerArgument(info, 0, "fd"), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return Number(info, -errno);
  }
  switch (address.ss_family) {
    case AF_INET:
      return Number(info, ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port));
    case AF_INET6:
      return Number(info, ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port));
    default:
      return Number(info, -EAFNOSUPPORT);
  }
}

Napi::Value DuplicateFd(const Napi::CallbackInfo& info) {
  const int copy = fcntl(IntegerArgument(info, 0, "fd"), F_DUPFD_CLOEXEC, 3);
  return Number(info, copy < 0 ? -errno : copy);
}

Napi::Value CloseFd(const Napi::CallbackInfo& info) {
  // No retry on EINTR: Linux has released the descriptor by then (close(2)).
  return Number(info, close(IntegerArgument(info, 0, "fd")) != 0 ? errno : 0);
}

Napi::Value SetNonBlocking(const Napi::CallbackInfo& info) {
  const int fd = IntegerArgument(info, 0, "fd");
  const int flags = fcntl(fd, F_GETFL);
  return Number(info, flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ? errno : 0);
}

Napi::Value SetParentDeathSignal(const Napi::CallbackInfo& info) {
  const auto signal = static_cast<unsigned long>(IntegerArgument(info, 0, "signal"));
  return Number(info, prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0 ? errno : 0);
}

Napi::Value ForbidCoreDumps(const Napi::CallbackInfo& info) {
  const rlimit none = {0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return Number(info, errno);
  // The limit alone does not hold where core_pattern is a pipe (core(5)); not being dumpable does.
  return Number(info, prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ? errno : 0);
}

Napi::Value TryLockFile(const Napi::CallbackInfo& info) {
  const int fd = IntegerArgument(info, 0, "fd");
  int result;
  do {
    result = flock(fd, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  return Number(info, result != 0 ? errno : 0);
}

Napi::Value PeerCredentials(const Napi::CallbackInfo& info) {
  ucred peer;
  socklen_t length = sizeof peer;
  memset(&peer, 0, sizeof peer);
  // Sockets of other families answer too, with pid 0.
  if (getsockopt(IntegerArgument(info, 0, "fd"), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.pid == 0) {
    return info.Env().Null();
  }
  Napi::Object credentials = Napi::Object::New(info.Env());
  credentials.Set("pid", Number(info, peer.pid));
  credentials.Set("uid", Number(info, peer.uid));
  credentials.Set("gid", Number(info, peer.gid));
  return credentials;
}

timespec TimeOf(const Napi::CallbackInfo& info, clockid_t clock, const char* name) {
  timespec now;
  if (clock_gettime(clock, &now) != 0) {
    throw Napi::Error::New(info.Env(), std::string("clock_gettime(") + name + ") failed");
  }
  return now;
}

Napi::Value BootTimeMs(const Napi::CallbackInfo& info) {
  const timespec now = TimeOf(info, CLOCK_BOOTTIME, "CLOCK_BOOTTIME");
  return Number(info, static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6);
}

Napi::Value MonotonicMicros(const Napi::CallbackInfo& info) {
  const timespec now = TimeOf(info, CLOCK_MONOTONIC, "CLOCK_MONOTONIC");
  return Number(info, static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3);
}

}  // namespace

void DefineProcessFunctions(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("sdNotify", SdNotify);
  add("bindTcp", BindTcp);
  add("boundPort", BoundPort);
  add("duplicateFd", DuplicateFd);
  add("closeFd", CloseFd);
  add("setNonBlocking", SetNonBlocking);
  add("setParentDeathSignal", SetParentDeathSignal);
  add("forbidCoreDumps", ForbidCoreDumps);
  add("tryLockFile", TryLockFile);
  add("peerCredentials", PeerCredentials);
  add("bootTimeMs", BootTimeMs);
  add("monotonicMicros", MonotonicMicros);
}

}  // namespace xksd
