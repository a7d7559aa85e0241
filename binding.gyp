{
  "targets": [
    {
      "target_name": "xksd",
      "sources": [
        "native/addon.cc",
        "native/gcm_parameters.cc",
        "native/iv_guard.cc",
        "native/operation_queue.cc",
        "native/pkcs11_binding.cc",
        "native/pkcs11_calls.cc",
        "native/pkcs11_crypto_binding.cc",
        "native/pkcs11_gcm.cc",
        "native/pkcs11_module.cc",
        "native/pkcs11_pool.cc",
        "native/pkcs11_queue_binding.cc",
        "native/pkcs11_session.cc",
        "native/pkcs11_trace.cc",
        "native/process.cc",
        "native/rv_class.cc",
        "native/sha256.cc",
        "native/sigv4.cc",
        "native/sigv4_binding.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      # A worker that is being ended cannot be thrown at; node-addon-api would abort the process instead.
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc": ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O2", "-fvisibility=hidden"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "libraries": ["-ldl", "-lpthread"],
      # Node closes an addon with the last environment that has it; our threads, exit handlers and modules stay.
      "ldflags": ["-Wl,-z,nodelete"]
    }
  ]
}
