// The addon's entry point, run once per environment (thread).
#include "addon.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  xksd::DefinePkcs11Functions(env, exports);
  xksd::DefineProcessFunctions(env, exports);
  xksd::DefineSigV4Functions(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(xksd, Init)
