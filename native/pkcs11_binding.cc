// PKCS#11 as JavaScript sees it (src/base/native.ts): modules, names of what they return, and the trace. Queues and session
// pools are in pkcs11_queue_binding.cc and pkcs11_crypto_binding.cc.
#include <unistd.h>

#include <chrono>
#include <thread>

#include "addon.h"
#include "pkcs11_environment.h"
#include "pkcs11_trace.h"

namespace xksd {

Napi::Object ToObject(Napi::Env env, const Outcome& outcome) {
  Napi::Object object = Napi::Object::New(env);
  const char* function = FunctionName(outcome.function);
  object["rv"] = outcome.has_rv ? Napi::Value(Napi::String::New(env, RvName(outcome.rv))) : env.Null();
  object["functionName"] = function != nullptr ? Napi::Value(Napi::String::New(env, function)) : env.Null();
  object["message"] =
      outcome.message.empty() ? env.Null() : Napi::Value(Napi::String::New(env, outcome.message));
  return object;
}

namespace {

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
