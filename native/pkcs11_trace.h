// The trace of PKCS#11 calls (`--trace-pkcs11`): a bounded ring between the threads that call and the one that writes the
// log. A call waits for nobody; where the ring is full its line is dropped and counted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "pkcs11_calls.h"

namespace xksd {

/** A call that has returned. Numbers only: what a call carries has no place here. */
struct TracedCall {
  enum class Kind : uint8_t { kNumber, kHandle, kMechanism, kHex };
  struct Field {
    /** A literal. */
    const char* name;
    uint64_t value;
    Kind kind;
  };
  static constexpr size_t kFieldsMax = 6;

  Function function = Function::kNone;
  /** `"module":"…"`, lives as long as the process. */
  const char* module = nullptr;
  CK_RV rv = CKR_OK;
  /** CLOCK_REALTIME at its beginning. */
  uint64_t began_nanos = 0;
  uint64_t took_nanos = 0;
  /** The system's number of the thread. */
  int thread = 0;
  size_t field_count = 0;
  Field fields[kFieldsMax] = {};

  void Add(const char* name, uint64_t value, Kind kind = Kind::kNumber) {
    if (field_count < kFieldsMax) fields[field_count++] = Field{name, value, kind};
  }
};

/** `,"name":value` for each field of the log's line. Times in UTC. */
std::string DescribeCall(const TracedCall& call);

class CallTrace {
 public:
  /** Power of two. A tenth of a second of the most that one process does. */
  static constexpr size_t kCalls = 8192;

  CallTrace();
  /** Any thread; never waits. */
  void Push(const TracedCall& call);
  /** @returns false when there is none. */
  bool Pop(TracedCall* call);
  /** Calls that found the ring full, since the start. */
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  /** A slot is written when `turn` is its place in the row of all calls, and read when it is one more. */
  struct Slot {
    std::atomic<uint64_t> turn;
    TracedCall call;
  };
  Slot slots_[kCalls];
  alignas(64) std::atomic<uint64_t> pushed_{0};
  alignas(64) std::atomic<uint64_t> popped_{0};
  std::atomic<uint64_t> dropped_{0};
};

/** From now on modules are traced as they are loaded. */
void StartTracing();
/** `nullptr` where calls are not traced. */
CallTrace* Trace();

}  // namespace xksd
