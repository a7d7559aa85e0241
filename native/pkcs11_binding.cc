// PKCS#11 as JavaScript sees it (src/base/native.ts). One environment (thread) has its own references to modules, its
// own operation queues and session pools; they are given back when it ends.
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>

#include "addon.h"
#include "pkcs11_pool.h"
#include "pkcs11_trace.h"

namespace xksd {
namespace {

/** How long the end of an environment waits for calls that are out. */
constexpr std::chrono::milliseconds kEnvironmentGrace{500};

Napi::Object ToObject(Napi::Env env, const Outcome& outcome) {
  Napi::Object object = Napi::Object::New(env);
  const char* function = FunctionName(outcome.function);
  object["rv"] = outcome.has_rv ? Napi::Value(Napi::String::New(env, RvName(outcome.rv))) : env.Null();
  object["functionName"] = function != nullptr ? Napi::Value(Napi::String::New(env, function)) : env.Null();
  object["message"] =
      outcome.message.empty() ? env.Null() : Napi::Value(Napi::String::New(env, outcome.message));
  return object;
}

// --- what an environment holds ------------------------------------------------------------------------------------

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

/** An operation queue, and where the calls of those who work on it are counted. */
struct CountedQueue {
  std::shared_ptr<OperationQueue> queue;
  std::shared_ptr<CallCounts> calls;
};

/** Queues by number, for the workers of this process to find. */
class QueueRegistry {
 public:
  // Never destroyed: environments may end after every static.
  static QueueRegistry& Instance() {
    static auto* instance = new QueueRegistry();
    return *instance;
  }

  uint32_t Add(const CountedQueue& added) {
    const std::lock_guard lock(mutex_);
    queues_.emplace(++last_, Entry{added.queue, added.calls});
    return last_;
  }
  CountedQueue Find(uint32_t id) {
    const std::lock_guard lock(mutex_);
    const auto found = queues_.find(id);
    if (found == queues_.end()) return {};
    return CountedQueue{found->second.queue.lock(), found->second.calls.lock()};
  }
  void Remove(uint32_t id) {
    const std::lock_guard lock(mutex_);
    queues_.erase(id);
  }

 private:
  std::mutex mutex_;
  struct Entry {
    std::weak_ptr<OperationQueue> queue;
    std::weak_ptr<CallCounts> calls;
  };
  uint32_t last_ = 0;
  std::map<uint32_t, Entry> queues_;
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

// --- Pkcs11OperationQueue and Pkcs11Crypto ------------------------------------------------------------------------
// Raw Node-API: a worker may be ended at any moment, also while it is in here, and every call then fails; the C++
// wrapper would throw, and abort the process for want of an environment to throw in.

constexpr size_t kArgumentsMax = 2;

/** The data of a function, and its first `count` arguments as numbers. @returns null when they are none. */
template <typename Handle>
Handle* ReadCall(napi_env env, napi_callback_info info, uint32_t* numbers, size_t count) {
  size_t given = kArgumentsMax;
  napi_value arguments[kArgumentsMax];
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &given, arguments, nullptr, &data) != napi_ok || given < count) return nullptr;
  for (size_t i = 0; i < count; ++i) {
    if (napi_get_value_uint32(env, arguments[i], &numbers[i]) != napi_ok) return nullptr;
  }
  return static_cast<Handle*>(data);
}

napi_value ToNumber(napi_env env, size_t number) {
  napi_value value = nullptr;
  napi_create_uint32(env, static_cast<uint32_t>(number), &value);
  return value;
}

napi_value Submit(napi_env env, napi_callback_info info) {
  uint32_t numbers[2];
  auto* handle = ReadCall<QueueHandle>(env, info, numbers, 2);
  if (handle == nullptr || handle->submitted == nullptr || numbers[0] > handle->submitted_pairs) return ToNumber(env, 0);
  return ToNumber(env, handle->queue->Submit(reinterpret_cast<const CellRef*>(handle->submitted), numbers[0], numbers[1]));
}

napi_value Forget(napi_env env, napi_callback_info info) {
  uint32_t numbers[2];
  auto* handle = ReadCall<QueueHandle>(env, info, numbers, 2);
  if (handle != nullptr) handle->queue->Forget(CellRef{numbers[0], numbers[1]});
  return nullptr;
}

napi_value AllowLanes(napi_env env, napi_callback_info info) {
  uint32_t lanes = 0;
  auto* handle = ReadCall<QueueHandle>(env, info, &lanes, 1);
  if (handle != nullptr) handle->queue->AllowLanes(lanes);
  return nullptr;
}

napi_value Collect(napi_env env, napi_callback_info info) {
  static_assert(sizeof(CellRef) == 2 * sizeof(uint32_t));
  auto* handle = ReadCall<QueueHandle>(env, info, nullptr, 0);
  if (handle == nullptr || handle->done == nullptr) return ToNumber(env, 0);
  return ToNumber(env, handle->queue->Collect(reinterpret_cast<CellRef*>(handle->done), handle->done_pairs));
}

template <size_t (OperationQueue::*count)()>
napi_value CountOf(napi_env env, napi_callback_info info) {
  auto* handle = ReadCall<QueueHandle>(env, info, nullptr, 0);
  return ToNumber(env, handle == nullptr ? 0 : (*handle->queue.*count)());
}

napi_value ReadCalls(napi_env env, napi_callback_info info) {
  size_t given = kArgumentsMax;
  napi_value arguments[kArgumentsMax];
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &given, arguments, nullptr, &data) != napi_ok || given < 1) return nullptr;
  napi_typedarray_type type{};
  size_t length = 0;
  void* numbers = nullptr;
  if (napi_get_typedarray_info(env, arguments[0], &type, &length, &numbers, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length < CallCounts::kNumbers) {
    return nullptr;
  }
  static_cast<QueueHandle*>(data)->calls->Read(static_cast<double*>(numbers));
  return nullptr;
}

napi_value StopQueue(napi_env env, napi_callback_info info) {
  auto* handle = ReadCall<QueueHandle>(env, info, nullptr, 0);
  if (handle != nullptr) handle->Stop();
  return nullptr;
}

napi_value CloseQueue(napi_env env, napi_callback_info info) {
  auto* handle = ReadCall<QueueHandle>(env, info, nullptr, 0);
  if (handle == nullptr) return nullptr;
  handle->Stop();
  const napi_threadsafe_function wakeup = handle->wakeup->Take();
  if (wakeup != nullptr) napi_release_threadsafe_function(wakeup, napi_tsfn_release);
  for (napi_ref* array : {&handle->submitted_array, &handle->done_array}) {
    if (*array != nullptr) napi_delete_reference(env, *array);
    *array = nullptr;
  }
  handle->submitted = nullptr;
  handle->done = nullptr;
  return nullptr;
}

napi_value Work(napi_env env, napi_callback_info info) {
  uint32_t shift_ms = 0;
  auto* handle = ReadCall<CryptoHandle>(env, info, &shift_ms, 1);
  if (handle == nullptr || handle->pool == nullptr) return ToNumber(env, 0);
  const std::shared_ptr<SessionPool> pool = handle->pool;
  return ToNumber(env, pool->Work(std::chrono::milliseconds(shift_ms)));
}

napi_value CloseCrypto(napi_env env, napi_callback_info info) {
  uint32_t grace_ms = 0;
  auto* handle = ReadCall<CryptoHandle>(env, info, &grace_ms, 1);
  if (handle == nullptr) return ToNumber(env, 0);
  const size_t left = handle->Close(std::chrono::milliseconds(grace_ms));
  if (handle->memory != nullptr) napi_delete_reference(env, handle->memory);
  handle->memory = nullptr;
  return ToNumber(env, left);
}

bool DefineMethod(napi_env env, napi_value object, const char* name, napi_callback callback, void* handle) {
  napi_value function = nullptr;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, handle, &function) == napi_ok &&
         napi_set_named_property(env, object, name, function) == napi_ok;
}

/** Runs on the thread that collects. Statuses are ignored: an environment that is ending refuses everything. */
void CallCompleted(napi_env env, napi_value completed, void*, void*) {
  napi_value global = nullptr;
  if (env == nullptr || napi_get_global(env, &global) != napi_ok) return;
  napi_call_function(env, global, completed, 0, nullptr, nullptr);
}

Napi::Value OpenQueue(const Napi::CallbackInfo& info, Environment* environment) {
  const Napi::Env env = info.Env();
  const auto options = info[0].As<Napi::Object>();
  auto submitted = options.Get("submitted").As<Napi::Uint32Array>();
  auto done = options.Get("done").As<Napi::Uint32Array>();
  const Napi::Value completed = options.Get("completed");

  auto handle = std::make_unique<QueueHandle>();
  handle->submitted = submitted.Data();
  handle->submitted_pairs = submitted.ElementLength() / 2;
  handle->done = done.Data();
  handle->done_pairs = done.ElementLength() / 2;
  handle->queue = std::make_shared<OperationQueue>([wakeup = handle->wakeup] { wakeup->Wake(); });
  napi_value name = Napi::String::New(env, "xksd completions");
  Napi::Object queue = Napi::Object::New(env);
  // Unreferenced: operations that are out do not keep a loop alive, their caller does.
  if (napi_create_reference(env, submitted, 1, &handle->submitted_array) != napi_ok ||
      napi_create_reference(env, done, 1, &handle->done_array) != napi_ok ||
      napi_create_threadsafe_function(env, completed, nullptr, name, 0, 1, nullptr, nullptr, nullptr, CallCompleted,
                                      &handle->wakeup->function) != napi_ok ||
      napi_unref_threadsafe_function(env, handle->wakeup->function) != napi_ok ||
      !DefineMethod(env, queue, "submit", Submit, handle.get()) ||
      !DefineMethod(env, queue, "forget", Forget, handle.get()) ||
      !DefineMethod(env, queue, "allowLanes", AllowLanes, handle.get()) ||
      !DefineMethod(env, queue, "collect", Collect, handle.get()) ||
      !DefineMethod(env, queue, "waiting", CountOf<&OperationQueue::waiting>, handle.get()) ||
      !DefineMethod(env, queue, "lanes", CountOf<&OperationQueue::lanes>, handle.get()) ||
      !DefineMethod(env, queue, "provenLanes", CountOf<&OperationQueue::proven>, handle.get()) ||
      !DefineMethod(env, queue, "readCalls", ReadCalls, handle.get()) ||
      !DefineMethod(env, queue, "stop", StopQueue, handle.get()) ||
      !DefineMethod(env, queue, "close", CloseQueue, handle.get())) {
    handle->wakeup->Take();
    throw Napi::Error::New(env, "the environment refused a function");
  }
  handle->id = QueueRegistry::Instance().Add(CountedQueue{handle->queue, handle->calls});
  queue["id"] = Napi::Number::New(env, handle->id);
  napi_add_env_cleanup_hook(env, QueueHandle::End, handle.get());
  environment->queues.push_back(std::move(handle));
  return queue;
}

std::vector<uint8_t> BytesOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Uint8Array>();
  return std::vector<uint8_t>(array.Data(), array.Data() + array.ByteLength());
}

Napi::Value OpenCrypto(const Napi::CallbackInfo& info, Environment* environment) {
  const Napi::Env env = info.Env();
  const auto options = info[0].As<Napi::Object>();
  auto memory = options.Get("memory").As<Napi::Uint8Array>();
  PoolOptions pool_options;
  pool_options.module_path = options.Get("modulePath").As<Napi::String>();
  pool_options.init_args = options.Get("initArgs").As<Napi::String>();
  bool lossless = false;
  pool_options.slot = options.Get("slotId").As<Napi::BigInt>().Uint64Value(&lossless);
  pool_options.sessions_max = options.Get("sessionsMax").As<Napi::Number>().Uint32Value();
  CountedQueue counted = QueueRegistry::Instance().Find(options.Get("queueId").As<Napi::Number>().Uint32Value());
  pool_options.queue = std::move(counted.queue);
  pool_options.calls = std::move(counted.calls);
  pool_options.memory = memory.Data();
  pool_options.memory_bytes = memory.ByteLength();
  pool_options.witness_plaintext = BytesOf(options.Get("witnessPlaintext"));
  pool_options.witness_aad = BytesOf(options.Get("witnessAad"));

  auto handle = std::make_unique<CryptoHandle>();
  const Outcome outcome = SessionPool::Open(std::move(pool_options), &handle->pool);
  Napi::Object result = ToObject(env, outcome);
  result["crypto"] = env.Null();
  if (!outcome.ok()) return result;
  const Napi::Object crypto = Napi::Object::New(env);
  if (napi_create_reference(env, memory, 1, &handle->memory) != napi_ok ||
      !DefineMethod(env, crypto, "work", Work, handle.get()) ||
      !DefineMethod(env, crypto, "close", CloseCrypto, handle.get())) {
    handle->Close(std::chrono::milliseconds(0));
    throw Napi::Error::New(env, "the environment refused a function");
  }
  napi_add_env_cleanup_hook(env, CryptoHandle::End, handle.get());
  environment->handles.push_back(std::move(handle));
  result["crypto"] = crypto;
  return result;
}

// --- the trace ----------------------------------------------------------------------------------------------------

/** What C_GetFunctionList below gives next on this thread. */
thread_local const CK_FUNCTION_LIST* offered = nullptr;

/** Up to `max` calls, in the words of the log. */
Napi::Value TakeTrace(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t max = info[0].As<Napi::Number>().Uint32Value();
  Napi::Array calls = Napi::Array::New(env);
  CallTrace* const trace = Trace();
  TracedCall call;
  for (uint32_t i = 0; trace != nullptr && i < max && trace->Pop(&call); ++i) {
    calls[i] = Napi::String::New(env, DescribeCall(call));
  }
  Napi::Object taken = Napi::Object::New(env);
  taken["calls"] = calls;
  taken["unobservedModules"] = Napi::Number::New(env, static_cast<double>(UnobservedModules()));
  taken["dropped"] = Napi::Number::New(env, trace == nullptr ? 0.0 : static_cast<double>(trace->dropped()));
  return taken;
}

}  // namespace

void DefinePkcs11Functions(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment();
  napi_add_env_cleanup_hook(env, Environment::End, environment);

  exports["loadPkcs11Module"] = Napi::Function::New(env, [environment](const Napi::CallbackInfo& info) {
    const std::string path = info[0].As<Napi::String>();
    ModuleRef module;
    const Outcome outcome = module.Acquire(path, info[1].As<Napi::String>());
    if (outcome.ok()) environment->modules.emplace(RealPath(path), std::move(module));
    return ToObject(info.Env(), outcome);
  });
  exports["releasePkcs11Module"] = Napi::Function::New(env, [environment](const Napi::CallbackInfo& info) {
    const auto found = environment->modules.find(RealPath(info[0].As<Napi::String>()));
    Outcome outcome;
    if (found != environment->modules.end()) {
      outcome = found->second.Release();
      environment->modules.erase(found);
    }
    return ToObject(info.Env(), outcome);
  });
  exports["openPkcs11OperationQueue"] = Napi::Function::New(
      env, [environment](const Napi::CallbackInfo& info) { return OpenQueue(info, environment); });
  exports["openPkcs11Crypto"] = Napi::Function::New(
      env, [environment](const Napi::CallbackInfo& info) { return OpenCrypto(info, environment); });
  exports["pkcs11RvName"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), RvName(info[0].As<Napi::Number>().Uint32Value()));
  });
  exports["pkcs11FunctionName"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) -> Napi::Value {
    const char* name = FunctionName(static_cast<Function>(info[0].As<Napi::Number>().Uint32Value()));
    return name == nullptr ? info.Env().Null() : Napi::Value(Napi::String::New(info.Env(), name));
  });
  exports["classifyPkcs11Rv"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    const bool decrypt = info[1].As<Napi::String>().Utf8Value() == "decrypt";
    const RvClass rv_class = ClassifyRv(info[0].As<Napi::Number>().Uint32Value(),
                                        decrypt ? Operation::kDecrypt : Operation::kEncrypt);
    return Napi::String::New(info.Env(), RvClassName(rv_class));
  });
  exports["pkcs11CallBoundsMicros"] = [env] {
    Napi::Array bounds = Napi::Array::New(env);
    for (size_t i = 0; i < CallCounts::kBounds; ++i) {
      bounds[static_cast<uint32_t>(i)] = Napi::Number::New(env, CallCounts::kBoundMicros[i]);
    }
    return bounds;
  }();
  exports["tracePkcs11Calls"] = Napi::Function::New(env, [](const Napi::CallbackInfo&) { StartTracing(); });
  exports["takePkcs11Trace"] = Napi::Function::New(env, TakeTrace);
  exports["offerTracedPkcs11Module"] = Napi::Function::New(env, [environment](const Napi::CallbackInfo& info) {
    const auto found = environment->modules.find(RealPath(info[0].As<Napi::String>()));
    if (Trace() == nullptr || found == environment->modules.end()) return Napi::Boolean::New(info.Env(), false);
    offered = &found->second->functions();
    return Napi::Boolean::New(info.Env(), true);
  });
  exports["exitDespiteHungCalls"] = Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    const int code = info[0].As<Napi::Number>().Int32Value();
    const uint32_t grace_ms = info[1].As<Napi::Number>().Uint32Value();
    std::thread([code, grace_ms] {
      std::this_thread::sleep_for(std::chrono::milliseconds(grace_ms));
      _exit(code);
    }).detach();
  });
}

}  // namespace xksd

/**
 * The addon as a PKCS#11 module: the one that was offered on this thread, with its calls traced. For pkcs11js, which
 * loads modules by their path.
 */
extern "C" __attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  constexpr CK_RV kGeneralError = 0x5;
  if (list == nullptr || xksd::offered == nullptr) return kGeneralError;
  *list = const_cast<CK_FUNCTION_LIST*>(xksd::offered);
  xksd::offered = nullptr;
  return CKR_OK;
}
