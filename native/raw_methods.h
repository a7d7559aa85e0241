// Methods in raw Node-API: a worker may be ended at any moment, also while it is in here, and every call then fails; the
// C++ wrapper would throw, and abort the process for want of an environment to throw in.
#pragma once

#include <node_api.h>

#include <cstddef>
#include <cstdint>

namespace xksd {

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

inline napi_value ToNumber(napi_env env, size_t number) {
  napi_value value = nullptr;
  napi_create_uint32(env, static_cast<uint32_t>(number), &value);
  return value;
}

/** Gives `object` a method whose data is `handle`, which has to outlive it. @returns false when the environment refuses. */
inline bool DefineMethod(napi_env env, napi_value object, const char* name, napi_callback callback, void* handle) {
  napi_value function = nullptr;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, handle, &function) == napi_ok &&
         napi_set_named_property(env, object, name, function) == napi_ok;
}

}  // namespace xksd
