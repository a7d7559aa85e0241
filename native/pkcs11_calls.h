// What goes between us and a module: when it is loaded, each function of its list that we call is wrapped once by one
// that times the call and, where calls are traced, describes it. Of what a call carries only numbers are read.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "pkcs11.h"

namespace xksd {

/** The functions that failures, counts and traces name. */
enum class Function : uint32_t {
  kNone,
  kDlopen,
  kDlsym,
  kGetrandom,
  kInitialize,
  kFinalize,
  kGetFunctionList,
  kGetTokenInfo,
  kOpenSession,
  kCloseSession,
  kGetSessionInfo,
  kFindObjectsInit,
  kFindObjects,
  kFindObjectsFinal,
  kEncryptInit,
  kEncrypt,
  kDecryptInit,
  kDecrypt,
  kGenerateRandom,
  kGetSlotList,
  kLogin,
  kGetAttributeValue,
  kGenerateKey,
  kCount,
};

/** `nullptr` for kNone. */
const char* FunctionName(Function function);

/** How long the calls of one token took, by function. Counted by any thread while another one reads. */
class CallCounts {
 public:
  /** Upper bounds of the buckets. From a module in this process to beyond what anybody waits for. */
  static constexpr uint32_t kBoundMicros[] = {10,    50,    100,    500,    1000,  5000,
                                              10000, 50000, 100000, 250000, 1000000};
  static constexpr size_t kBounds = sizeof kBoundMicros / sizeof *kBoundMicros;
  /** What Read gives of a function: its calls by bucket (the last is beyond all bounds), and their nanoseconds. */
  static constexpr size_t kNumbersPerFunction = kBounds + 2;
  /** And at the end the repeated operations. */
  static constexpr size_t kNumbers = static_cast<size_t>(Function::kCount) * kNumbersPerFunction + 1;

  void Count(Function function, uint64_t nanos);
  /** An operation was tried again, in a new session or with the key found anew. */
  void CountRepeat() { repeats_.fetch_add(1, std::memory_order_relaxed); }
  /** Fills kNumbers. Each is right for itself; together they may be of different moments. */
  void Read(double* numbers) const;

 private:
  struct Row {
    std::atomic<uint64_t> calls[kBounds + 1];
    std::atomic<uint64_t> nanos;
  };
  Row rows_[static_cast<size_t>(Function::kCount)] = {};
  std::atomic<uint64_t> repeats_{0};
};

/** While it lives, the calls of this thread count for one token; `nullptr`: for none. */
class CountedFor {
 public:
  explicit CountedFor(CallCounts* counts);
  ~CountedFor();
  CountedFor(const CountedFor&) = delete;
  CountedFor& operator=(const CountedFor&) = delete;

 private:
  CallCounts* const before_;
};

/** Wrapped at once in one process, at most: the configuration has at most ten tokens. */
constexpr size_t kObservedModulesMax = 12;

/**
 * The list to be called instead of `functions`; that list itself when kObservedModulesMax others are wrapped, whose calls
 * are then neither counted nor traced (`UnobservedModules`). Lives as long as the process. Traced if StartTracing was
 * called before. Any thread.
 */
CK_FUNCTION_LIST* Observe(CK_FUNCTION_LIST* functions, const std::string& path);

/** Modules of this process that Observe left as they are. */
size_t UnobservedModules();

}  // namespace xksd
