// What one environment (thread) holds of PKCS#11, behind the objects that its JavaScript has: references to modules,
// operation queues and session pools. All of it is given back when the environment ends.
#pragma once

#include <napi.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "pkcs11_pool.h"
#include "queue_registry.h"

namespace xksd {

/** How long the end of an environment waits for calls that are out. */
constexpr std::chrono::milliseconds kEnvironmentGrace{500};

/** Wakes the thread that collects. Null once its environment has begun to end: late completions then go nowhere. */
struct Wakeup {
  std::mutex mutex;
  napi_threadsafe_function function = nullptr;

  void Wake() {
    const std::lock_guard lock(mutex);
    if (function == nullptr) return;
    // The status says at most that the environment is ending: nobody waits then.
    napi_call_threadsafe_function(function, nullptr, napi_tsfn_nonblocking);
  }

  /** From here on completions go nowhere. @returns what to release, once. */
  napi_threadsafe_function Take() {
    const std::lock_guard lock(mutex);
    const napi_threadsafe_function taken = function;
    function = nullptr;
    return taken;
  }
};

/** The submitting side of a queue, behind the object that JavaScript holds. */
struct QueueHandle {
  std::shared_ptr<Wakeup> wakeup = std::make_shared<Wakeup>();
  std::shared_ptr<OperationQueue> queue;
  std::shared_ptr<CallCounts> calls = std::make_shared<CallCounts>();
  uint32_t id = 0;
  /** Where Submit finds index and generation in turn. */
  const uint32_t* submitted = nullptr;
  size_t submitted_pairs = 0;
  napi_ref submitted_array = nullptr;
  /** Where Collect puts them. */
  uint32_t* done = nullptr;
  size_t done_pairs = 0;
  napi_ref done_array = nullptr;

  void Stop() {
    queue->Stop();
    QueueRegistry::Instance().Remove(id);
  }

  /**
   * The environment ends. Registered after the thread-safe function was made, so it runs before Node takes that down;
   * no thread may call it afterwards.
   */
  static void End(void* data) {
    auto* handle = static_cast<QueueHandle*>(data);
    handle->wakeup->Take();
    handle->Stop();
  }
};

/** A session pool of an environment, behind the object that JavaScript holds. */
struct CryptoHandle {
  std::shared_ptr<SessionPool> pool;
  napi_ref memory = nullptr;

  size_t Close(std::chrono::milliseconds grace) {
    if (pool == nullptr) return 0;
    const size_t left = pool->Close(grace);
    pool.reset();
    return left;
  }

  /** The environment ends. */
  static void End(void* data) { static_cast<CryptoHandle*>(data)->Close(kEnvironmentGrace); }
};

struct Environment {
  /** References by real path: one entry for each `loadPkcs11Module` that was not released. */
  std::multimap<std::string, ModuleRef> modules;
  std::vector<std::unique_ptr<CryptoHandle>> handles;
  std::vector<std::unique_ptr<QueueHandle>> queues;

  static void End(void* data) {
    auto* environment = static_cast<Environment*>(data);
    delete environment;
  }
};

/** `openPkcs11OperationQueue` of src/base/native.ts (pkcs11_queue_binding.cc). */
Napi::Value OpenQueue(const Napi::CallbackInfo& info, Environment* environment);
/** `openPkcs11Crypto` (pkcs11_crypto_binding.cc). */
Napi::Value OpenCrypto(const Napi::CallbackInfo& info, Environment* environment);

/** A `Pkcs11Outcome`. */
Napi::Object ToObject(Napi::Env env, const Outcome& outcome);

}  // namespace xksd
