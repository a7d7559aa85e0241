#include "addon.h"

namespace xksd {

void DefinePkcs11Functions(Napi::Env, Napi::Object) {}

}  // namespace xksd
