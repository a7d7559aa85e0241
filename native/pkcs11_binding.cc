// PKCS#11 as JavaScript sees it (src/base/native.ts). One environment (thread) has its own references to modules and
// its own session pools; they are given back when it ends.
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>

#include "addon.h"
#include "pkcs11_pool.h"

namespace xksd {
namespace {

/** How long the end of an environment waits for calls that are out. */
constexpr std::chrono::milliseconds kEnvironmentGrace{500};
/** Operations in one batch; more is a bug. */
constexpr uint32_t kBatchCellsMax = 1024;

Napi::Object ToObject(Napi::Env env, const Outcome& outcome) {
  Napi::Object object = Napi::Object::New(env);
  const char* function = FunctionName(outcome.function);
  object["rv"] = outcome.has_rv ? Napi::Value(Napi::String::New(env, RvName(outcome.rv))) : env.Null();
  object["functionName"] = function != nullptr ? Napi::Value(Napi::String::New(env, function)) : env.Null();
  object["message"] =
      outcome.message.empty() ? env.Null() : Napi::Value(Napi::String::New(env, outcome.message));
  return object;
}

// --- batches of a threaded pool ---------------------------------------------------------------------------------

class NapiBatch;

/** Wakes the worker's thread. Null once its environment has begun to end: late completions then go nowhere. */
struct Wakeup {
  std::mutex mutex;
  napi_threadsafe_function function = nullptr;
};

class NapiBatch : public Batch {
 public:
  NapiBatch(std::shared_ptr<Wakeup> wakeup, napi_deferred deferred) : wakeup_(std::move(wakeup)), deferred_(deferred) {}

  void Done() override {
    const std::lock_guard lock(wakeup_->mutex);
    if (wakeup_->function == nullptr) return;
    // One uv_async for the whole batch. The status says at most that the environment is ending: nobody waits then.
    napi_call_threadsafe_function(wakeup_->function, deferred_, napi_tsfn_nonblocking);
  }

  /** Runs on the worker's thread. */
  static void Resolve(napi_env env, napi_value, void*, void* data) {
    if (env == nullptr) return;
    // Statuses are ignored: a worker that is being ended refuses everything, and must not abort for it.
    napi_value undefined = nullptr;
    if (napi_get_undefined(env, &undefined) != napi_ok) return;
    napi_resolve_deferred(env, static_cast<napi_deferred>(data), undefined);
  }

 private:
  std::shared_ptr<Wakeup> wakeup_;
  napi_deferred deferred_;
};

// --- what an environment holds ------------------------------------------------------------------------------------

/** A session pool of an environment, behind the object that JavaScript holds. */
struct CryptoHandle {
  std::shared_ptr<SessionPool> pool;
  std::shared_ptr<Wakeup> wakeup = std::make_shared<Wakeup>();
  napi_ref memory = nullptr;

  size_t Close(std::chrono::milliseconds grace) {
    if (pool == nullptr) return 0;
    const size_t left = pool->Close(grace);
    pool.reset();
    return left;
  }

  /** From here on completions go nowhere. @returns what to release, once. */
  napi_threadsafe_function TakeWakeup() {
    const std::lock_guard lock(wakeup->mutex);
    const napi_threadsafe_function taken = wakeup->function;
    wakeup->function = nullptr;
    return taken;
  }

  /**
   * The environment ends. Registered after the thread-safe function was made, so it runs before Node takes that down;
   * no thread may call it afterwards.
   */
  static void End(void* data) {
    auto* handle = static_cast<CryptoHandle*>(data);
    handle->TakeWakeup();
    handle->Close(kEnvironmentGrace);
  }
};

struct Environment {
  /** References by real path: one entry for each `loadPkcs11Module` that was not released. */
  std::multimap<std::string, ModuleRef> modules;
  std::vector<std::unique_ptr<CryptoHandle>> handles;

  static void End(void* data) {
    auto* environment = static_cast<Environment*>(data);
    delete environment;
  }
};

// --- Pkcs11Crypto -------------------------------------------------------------------------------------------------
// Raw Node-API: a worker may be ended at any moment, also while it is in here, and every call then fails; the C++
// wrapper would throw, and abort the process for want of an environment to throw in.

bool ReadBatch(napi_env env, napi_callback_info info, CryptoHandle** handle, std::vector<CellRef>* cells) {
  size_t count = 1;
  napi_value array = nullptr;
  void* data = nullptr;
  uint32_t length = 0;
  if (napi_get_cb_info(env, info, &count, &array, nullptr, &data) != napi_ok || count != 1) return false;
  if (napi_get_array_length(env, array, &length) != napi_ok || length > 2 * kBatchCellsMax) return false;
  *handle = static_cast<CryptoHandle*>(data);
  cells->reserve(length / 2);
  for (uint32_t i = 0; i + 1 < length; i += 2) {
    napi_value index = nullptr;
    napi_value generation = nullptr;
    CellRef cell{};
    if (napi_get_element(env, array, i, &index) != napi_ok ||
        napi_get_element(env, array, i + 1, &generation) != napi_ok ||
        napi_get_value_uint32(env, index, &cell.index) != napi_ok ||
        napi_get_value_uint32(env, generation, &cell.generation) != napi_ok) {
      return false;
    }
    cells->push_back(cell);
  }
  return true;
}

napi_value RunBatch(napi_env env, napi_callback_info info) {
  CryptoHandle* handle = nullptr;
  std::vector<CellRef> cells;
  if (ReadBatch(env, info, &handle, &cells) && handle->pool != nullptr) {
    const std::shared_ptr<SessionPool> pool = handle->pool;
    pool->Run(cells);
  }
  return nullptr;
}

napi_value StartBatch(napi_env env, napi_callback_info info) {
  CryptoHandle* handle = nullptr;
  std::vector<CellRef> cells;
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  if (!ReadBatch(env, info, &handle, &cells)) return nullptr;
  if (napi_create_promise(env, &deferred, &promise) != napi_ok) return nullptr;
  if (handle->pool != nullptr) handle->pool->Submit(cells, std::make_shared<NapiBatch>(handle->wakeup, deferred));
  return promise;
}

napi_value CloseCrypto(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  void* data = nullptr;
  uint32_t grace_ms = 0;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, &data) != napi_ok) return nullptr;
  if (count == 1) napi_get_value_uint32(env, argument, &grace_ms);
  auto* handle = static_cast<CryptoHandle*>(data);
  const size_t left = handle->Close(std::chrono::milliseconds(grace_ms));
  const napi_threadsafe_function wakeup = handle->TakeWakeup();
  if (wakeup != nullptr) napi_release_threadsafe_function(wakeup, napi_tsfn_release);
  if (handle->memory != nullptr) napi_delete_reference(env, handle->memory);
  handle->memory = nullptr;
  napi_value result = nullptr;
  napi_create_uint32(env, static_cast<uint32_t>(left), &result);
  return result;
}

bool DefineMethod(napi_env env, napi_value object, const char* name, napi_callback callback, CryptoHandle* handle) {
  napi_value function = nullptr;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, handle, &function) == napi_ok &&
         napi_set_named_property(env, object, name, function) == napi_ok;
}

std::vector<uint8_t> BytesOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Uint8Array>();
  return std::vector<uint8_t>(array.Data(), array.Data() + array.ByteLength());
}

bool CreateWakeup(napi_env env, CryptoHandle* handle) {
  napi_value name = nullptr;
  if (napi_create_string_utf8(env, "xksd batch", NAPI_AUTO_LENGTH, &name) != napi_ok) return false;
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, NapiBatch::Resolve,
                                      &handle->wakeup->function) != napi_ok) {
    return false;
  }
  // Work that is out does not keep a loop alive: its caller does.
  return napi_unref_threadsafe_function(env, handle->wakeup->function) == napi_ok;
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
  pool_options.sessions = options.Get("sessions").As<Napi::Number>().Uint32Value();
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
  if (!CreateWakeup(env, handle.get()) || napi_create_reference(env, memory, 1, &handle->memory) != napi_ok ||
      !DefineMethod(env, crypto, "run", RunBatch, handle.get()) ||
      !DefineMethod(env, crypto, "start", StartBatch, handle.get()) ||
      !DefineMethod(env, crypto, "close", CloseCrypto, handle.get())) {
    handle->TakeWakeup();
    handle->Close(std::chrono::milliseconds(0));
    throw Napi::Error::New(env, "the environment refused a function");
  }
  napi_add_env_cleanup_hook(env, CryptoHandle::End, handle.get());
  environment->handles.push_back(std::move(handle));
  result["crypto"] = crypto;
  return result;
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
