// The addon's entry point: one Napi::Addon per environment (thread). What is process-wide lives behind it, guarded.
#include <napi.h>

namespace {

class XksdAddon : public Napi::Addon<XksdAddon> {
 public:
  XksdAddon(Napi::Env, Napi::Object exports) { DefineAddon(exports, {}); }
};

}  // namespace

NODE_API_NAMED_ADDON(xksd, XksdAddon)
