#include "pkcs11_calls.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <mutex>
#include <utility>

#include "pkcs11_trace.h"

namespace xksd {
namespace {

constexpr const char* kFunctionNames[] = {
    nullptr,          "dlopen",         "dlsym",              "getrandom",      "C_Initialize",  "C_Finalize",
    "C_GetFunctionList", "C_GetTokenInfo", "C_OpenSession",   "C_CloseSession", "C_GetSessionInfo",
    "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt",     "C_DecryptInit",
    "C_Decrypt",      "C_GenerateRandom", "C_GetSlotList",    "C_Login",        "C_GetAttributeValue",
    "C_GenerateKey",
};
static_assert(sizeof kFunctionNames / sizeof *kFunctionNames == static_cast<size_t>(Function::kCount));

uint64_t Nanos(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

thread_local CallCounts* counted_for = nullptr;

struct ObservedModule {
  /** The module's own. */
  CK_FUNCTION_LIST* functions = nullptr;
  CK_FUNCTION_LIST wrapped{};
  /** For TracedCall::module. */
  std::string name;
};
/** Never destroyed: threads may be left inside a module. */
ObservedModule* const observed = new ObservedModule[kObservedModulesMax];
/** Guards observed_count, and each place until its list has been given out; wrappers read theirs without it. */
std::mutex* const observed_mutex = new std::mutex;
size_t observed_count = 0;
std::atomic<size_t> unobserved{0};

// --- what a trace says of a call: handles, lengths, numbers; never what a pointer to data leads to ----------------------

template <Function kFunction>
struct Of {};
using Kind = TracedCall::Kind;

void AddMechanism(TracedCall& call, const CK_MECHANISM* mechanism) {
  if (mechanism == nullptr) return;
  call.Add("mechanism", mechanism->mechanism, Kind::kMechanism);
  // Another length is another layout.
  if (mechanism->mechanism != CKM_AES_GCM || mechanism->ulParameterLen != sizeof(CK_GCM_PARAMS)) return;
  const auto* gcm = static_cast<const CK_GCM_PARAMS*>(mechanism->pParameter);
  call.Add("ivBytes", gcm->ulIvLen);
  call.Add("aadBytes", gcm->ulAADLen);
}

void AddResult(TracedCall& call, const char* name, const CK_ULONG* value, Kind kind = Kind::kNumber) {
  if (call.rv == CKR_OK && value != nullptr) call.Add(name, *value, kind);
}

void Add(Of<Function::kInitialize>, TracedCall&, void*) {}
void Add(Of<Function::kFinalize>, TracedCall&, void*) {}
void Add(Of<Function::kGetSlotList>, TracedCall& call, CK_BYTE, CK_SLOT_ID*, CK_ULONG* count) {
  AddResult(call, "slots", count);
}
void Add(Of<Function::kGetTokenInfo>, TracedCall& call, CK_SLOT_ID slot, CK_TOKEN_INFO*) {
  call.Add("slot", slot, Kind::kHandle);
}
void Add(Of<Function::kOpenSession>, TracedCall& call, CK_SLOT_ID slot, CK_FLAGS flags, void*, void*,
         CK_SESSION_HANDLE* session) {
  call.Add("slot", slot, Kind::kHandle);
  call.Add("flags", flags, Kind::kHex);
  AddResult(call, "session", session, Kind::kHandle);
}
void Add(Of<Function::kCloseSession>, TracedCall& call, CK_SESSION_HANDLE session) {
  call.Add("session", session, Kind::kHandle);
}
void Add(Of<Function::kGetSessionInfo>, TracedCall& call, CK_SESSION_HANDLE session, CK_SESSION_INFO* info) {
  call.Add("session", session, Kind::kHandle);
  if (info != nullptr) AddResult(call, "state", &info->state);
}
/** Not even how long the PIN is. */
void Add(Of<Function::kLogin>, TracedCall& call, CK_SESSION_HANDLE session, CK_ULONG user, CK_BYTE*, CK_ULONG) {
  call.Add("session", session, Kind::kHandle);
  call.Add("userType", user);
}
void Add(Of<Function::kFindObjectsInit>, TracedCall& call, CK_SESSION_HANDLE session, CK_ATTRIBUTE*, CK_ULONG count) {
  call.Add("session", session, Kind::kHandle);
  call.Add("attributes", count);
}
void Add(Of<Function::kFindObjects>, TracedCall& call, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE* objects, CK_ULONG,
         CK_ULONG* count) {
  call.Add("session", session, Kind::kHandle);
  AddResult(call, "objects", count);
  if (count != nullptr && *count > 0) AddResult(call, "object", objects, Kind::kHandle);
}
void Add(Of<Function::kFindObjectsFinal>, TracedCall& call, CK_SESSION_HANDLE session) {
  call.Add("session", session, Kind::kHandle);
}
void Add(Of<Function::kGetAttributeValue>, TracedCall& call, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
         CK_ATTRIBUTE* attributes, CK_ULONG count) {
  call.Add("session", session, Kind::kHandle);
  call.Add("object", object, Kind::kHandle);
  call.Add("attributes", count);
  if (attributes != nullptr && count > 0) call.Add("attribute", attributes->type, Kind::kHex);
}
void Add(Of<Function::kGenerateKey>, TracedCall& call, CK_SESSION_HANDLE session, CK_MECHANISM* mechanism,
         CK_ATTRIBUTE*, CK_ULONG count, CK_OBJECT_HANDLE* key) {
  call.Add("session", session, Kind::kHandle);
  AddMechanism(call, mechanism);
  call.Add("attributes", count);
  AddResult(call, "object", key, Kind::kHandle);
}
void AddInit(TracedCall& call, CK_SESSION_HANDLE session, const CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  call.Add("session", session, Kind::kHandle);
  AddMechanism(call, mechanism);
  call.Add("object", key, Kind::kHandle);
}
void Add(Of<Function::kEncryptInit>, TracedCall& call, CK_SESSION_HANDLE session, CK_MECHANISM* mechanism,
         CK_OBJECT_HANDLE key) {
  AddInit(call, session, mechanism, key);
}
void Add(Of<Function::kDecryptInit>, TracedCall& call, CK_SESSION_HANDLE session, CK_MECHANISM* mechanism,
         CK_OBJECT_HANDLE key) {
  AddInit(call, session, mechanism, key);
}
void AddOperation(TracedCall& call, CK_SESSION_HANDLE session, CK_ULONG bytes, const CK_ULONG* out_bytes) {
  call.Add("session", session, Kind::kHandle);
  call.Add("bytes", bytes);
  AddResult(call, "outBytes", out_bytes);
}
void Add(Of<Function::kEncrypt>, TracedCall& call, CK_SESSION_HANDLE session, CK_BYTE*, CK_ULONG bytes, CK_BYTE*,
         CK_ULONG* out_bytes) {
  AddOperation(call, session, bytes, out_bytes);
}
void Add(Of<Function::kDecrypt>, TracedCall& call, CK_SESSION_HANDLE session, CK_BYTE*, CK_ULONG bytes, CK_BYTE*,
         CK_ULONG* out_bytes) {
  AddOperation(call, session, bytes, out_bytes);
}
void Add(Of<Function::kGenerateRandom>, TracedCall& call, CK_SESSION_HANDLE session, CK_BYTE*, CK_ULONG bytes) {
  call.Add("session", session, Kind::kHandle);
  call.Add("bytes", bytes);
}

// --- the wrappers -----------------------------------------------------------------------------------------------------

/** A function list has no place for a context: each wrapper knows its module by its type. */
template <size_t kModule, bool kTraced, Function kFunction, auto kMember>
struct Wrapper;

template <size_t kModule, bool kTraced, Function kFunction, typename... Arguments,
          CK_RV (*CK_FUNCTION_LIST::*kMember)(Arguments...)>
struct Wrapper<kModule, kTraced, kFunction, kMember> {
  static CK_RV Call(Arguments... arguments) {
    const ObservedModule& module = observed[kModule];
    TracedCall call;
    if constexpr (kTraced) call.began_nanos = Nanos(CLOCK_REALTIME);
    const uint64_t begun = Nanos(CLOCK_MONOTONIC);
    const CK_RV rv = (module.functions->*kMember)(arguments...);
    const uint64_t took = Nanos(CLOCK_MONOTONIC) - begun;
    if (counted_for != nullptr) counted_for->Count(kFunction, took);
    if constexpr (kTraced) {
      call.function = kFunction;
      call.module = module.name.c_str();
      call.rv = rv;
      call.took_nanos = took;
      call.thread = static_cast<int>(syscall(SYS_gettid));
      Add(Of<kFunction>(), call, arguments...);
      Trace()->Push(call);
    }
    return rv;
  }
};

template <size_t kModule, bool kTraced>
void Wrap(CK_FUNCTION_LIST* list) {
#define XKSD_WRAP(name) \
  if (list->C_##name != nullptr) list->C_##name = Wrapper<kModule, kTraced, Function::k##name, &CK_FUNCTION_LIST::C_##name>::Call
  XKSD_WRAP(Initialize);
  XKSD_WRAP(Finalize);
  XKSD_WRAP(GetSlotList);
  XKSD_WRAP(GetTokenInfo);
  XKSD_WRAP(OpenSession);
  XKSD_WRAP(CloseSession);
  XKSD_WRAP(GetSessionInfo);
  XKSD_WRAP(Login);
  XKSD_WRAP(FindObjectsInit);
  XKSD_WRAP(FindObjects);
  XKSD_WRAP(FindObjectsFinal);
  XKSD_WRAP(GetAttributeValue);
  XKSD_WRAP(EncryptInit);
  XKSD_WRAP(Encrypt);
  XKSD_WRAP(DecryptInit);
  XKSD_WRAP(Decrypt);
  XKSD_WRAP(GenerateKey);
  XKSD_WRAP(GenerateRandom);
#undef XKSD_WRAP
}

using WrapFunction = void (*)(CK_FUNCTION_LIST*);

template <bool kTraced, size_t... kModules>
WrapFunction WrapperOf(size_t module, std::index_sequence<kModules...>) {
  static constexpr WrapFunction kWrappers[] = {Wrap<kModules, kTraced>...};
  return kWrappers[module];
}

}  // namespace

const char* FunctionName(Function function) {
  const auto index = static_cast<size_t>(function);
  return index < static_cast<size_t>(Function::kCount) ? kFunctionNames[index] : nullptr;
}

void CallCounts::Count(Function function, uint64_t nanos) {
  Row& row = rows_[static_cast<size_t>(function)];
  size_t bucket = 0;
  while (bucket < kBounds && nanos > uint64_t{kBoundMicros[bucket]} * 1000) ++bucket;
  row.calls[bucket].fetch_add(1, std::memory_order_relaxed);
  row.nanos.fetch_add(nanos, std::memory_order_relaxed);
}

void CallCounts::Read(double* numbers) const {
  for (const Row& row : rows_) {
    for (const auto& calls : row.calls) *numbers++ = static_cast<double>(calls.load(std::memory_order_relaxed));
    *numbers++ = static_cast<double>(row.nanos.load(std::memory_order_relaxed));
  }
  *numbers = static_cast<double>(repeats_.load(std::memory_order_relaxed));
}

CountedFor::CountedFor(CallCounts* counts) : before_(counted_for) { counted_for = counts; }
CountedFor::~CountedFor() { counted_for = before_; }

size_t UnobservedModules() { return unobserved.load(); }

CK_FUNCTION_LIST* Observe(CK_FUNCTION_LIST* functions, const std::string& path) {
  const std::lock_guard lock(*observed_mutex);
  if (observed_count == kObservedModulesMax) {
    unobserved.fetch_add(1);
    return functions;
  }
  const size_t place = observed_count++;
  ObservedModule& module = observed[place];
  module.functions = functions;
  module.wrapped = *functions;
  std::string name = "\"module\":\"";
  // JSON wants these escaped; nobody puts them into the path of a module.
  for (const char c : path) name += c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  module.name = name + '"';
  using Places = std::make_index_sequence<kObservedModulesMax>;
  const WrapFunction wrap = Trace() != nullptr ? WrapperOf<true>(place, Places()) : WrapperOf<false>(place, Places());
  wrap(&module.wrapped);
  return &module.wrapped;
}

}  // namespace xksd
