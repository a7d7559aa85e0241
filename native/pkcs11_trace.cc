#include "pkcs11_trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "rv_class.h"

namespace xksd {
namespace {

std::atomic<CallTrace*> trace{nullptr};

std::string MechanismName(uint64_t mechanism) {
  constexpr uint64_t kAesKeyGen = 0x1080;
  if (mechanism == CKM_AES_GCM) return "CKM_AES_GCM";
  if (mechanism == kAesKeyGen) return "CKM_AES_KEY_GEN";
  char text[32];
  snprintf(text, sizeof text, "0x%" PRIX64, mechanism);
  return text;
}

std::string TimeText(uint64_t nanos) {
  constexpr uint64_t kNanosPerSecond = 1000000000;
  const auto seconds = static_cast<time_t>(nanos / kNanosPerSecond);
  tm utc{};
  gmtime_r(&seconds, &utc);
  char date[32];
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
  char text[48];
  snprintf(text, sizeof text, "%s.%06uZ", date, static_cast<unsigned>(nanos % kNanosPerSecond / 1000));
  return text;
}

void AppendField(std::string* line, const TracedCall::Field& field) {
  char text[64];
  switch (field.kind) {
    case TracedCall::Kind::kNumber:
      snprintf(text, sizeof text, ",\"%s\":%" PRIu64, field.name, field.value);
      break;
    case TracedCall::Kind::kHandle:
      // As a string: JSON's numbers end at 2^53, handles do not.
      snprintf(text, sizeof text, ",\"%s\":\"%" PRIu64 "\"", field.name, field.value);
      break;
    case TracedCall::Kind::kMechanism:
      snprintf(text, sizeof text, ",\"%s\":\"%s\"", field.name, MechanismName(field.value).c_str());
      break;
    case TracedCall::Kind::kHex:
      snprintf(text, sizeof text, ",\"%s\":\"0x%" PRIX64 "\"", field.name, field.value);
      break;
  }
  *line += text;
}

}  // namespace

std::string DescribeCall(const TracedCall& call) {
  const char* const function = FunctionName(call.function);
  std::string line = ",\"function\":\"";
  line += function == nullptr ? "?" : function;
  line += '"';
  for (size_t i = 0; i < call.field_count; ++i) AppendField(&line, call.fields[i]);
  char rest[64];
  snprintf(rest, sizeof rest, "\",\"us\":%.1f,\"thread\":%d", static_cast<double>(call.took_nanos) / 1000, call.thread);
  line += ",\"rv\":\"" + RvName(call.rv) + rest + ",\"began\":\"" + TimeText(call.began_nanos) + '"';
  if (call.module != nullptr) line += std::string(",") + call.module;
  return line;
}

CallTrace::CallTrace() {
  for (size_t i = 0; i < kCalls; ++i) slots_[i].turn.store(i, std::memory_order_relaxed);
}

void CallTrace::Push(const TracedCall& call) {
  uint64_t at = pushed_.load(std::memory_order_relaxed);
  for (;;) {
    Slot& slot = slots_[at % kCalls];
    const uint64_t turn = slot.turn.load(std::memory_order_acquire);
    if (turn == at) {
      if (!pushed_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) continue;
      slot.call = call;
      slot.turn.store(at + 1, std::memory_order_release);
      return;
    }
    // Still holds the call of a round before: full.
    if (turn < at) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    at = pushed_.load(std::memory_order_relaxed);
  }
}

bool CallTrace::Pop(TracedCall* call) {
  uint64_t at = popped_.load(std::memory_order_relaxed);
  for (;;) {
    Slot& slot = slots_[at % kCalls];
    const uint64_t turn = slot.turn.load(std::memory_order_acquire);
    if (turn < at + 1) return false;
    if (turn == at + 1) {
      if (!popped_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) continue;
      *call = slot.call;
      slot.turn.store(at + kCalls, std::memory_order_release);
      return true;
    }
    at = popped_.load(std::memory_order_relaxed);
  }
}

void StartTracing() {
  // Never destroyed: threads may be left inside a module.
  if (trace.load() == nullptr) trace.store(new CallTrace());
}

CallTrace* Trace() { return trace.load(std::memory_order_relaxed); }

}  // namespace xksd
