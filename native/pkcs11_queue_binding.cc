// Pkcs11OperationQueue of src/base/native.ts: the submitting side of an operation queue.
#include "pkcs11_environment.h"
#include "raw_methods.h"

namespace xksd {
namespace {

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

napi_value KeepLanes(napi_env env, napi_callback_info info) {
  uint32_t keep = 0;
  auto* handle = ReadCall<QueueHandle>(env, info, &keep, 1);
  if (handle != nullptr) handle->queue->KeepLanes(keep != 0);
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

/** Runs on the thread that collects. Statuses are ignored: an environment that is ending refuses everything. */
void CallCompleted(napi_env env, napi_value completed, void*, void*) {
  napi_value global = nullptr;
  if (env == nullptr || napi_get_global(env, &global) != napi_ok) return;
  napi_call_function(env, global, completed, 0, nullptr, nullptr);
}

}  // namespace

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
      !DefineMethod(env, queue, "keepLanes", KeepLanes, handle.get()) ||
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

}  // namespace xksd
