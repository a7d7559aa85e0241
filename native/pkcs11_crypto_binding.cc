// Pkcs11Crypto of src/base/native.ts: the session pool of a worker.
#include "pkcs11_environment.h"
#include "raw_methods.h"

namespace xksd {
namespace {

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

std::vector<uint8_t> BytesOf(const Napi::Value& value) {
  const auto array = value.As<Napi::Uint8Array>();
  return std::vector<uint8_t>(array.Data(), array.Data() + array.ByteLength());
}

}  // namespace

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
  pool_options.session_idle =
      std::chrono::milliseconds(options.Get("sessionIdleMs").As<Napi::Number>().Uint32Value());
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

}  // namespace xksd
