// Loaded PKCS#11 modules, process-wide: reference-counted by real path, initialised once, finalised by the last.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "iv_guard.h"
#include "pkcs11.h"
#include "pkcs11_calls.h"

namespace xksd {

struct Outcome {
  CK_RV rv = CKR_OK;
  /** False where no PKCS#11 function was reached (dlopen and the like). */
  bool has_rv = true;
  Function function = Function::kNone;
  std::string message;

  bool ok() const { return has_rv && rv == CKR_OK; }
};

class Module {
 public:
  /** Observed (pkcs11_calls.h). */
  const CK_FUNCTION_LIST& functions() const { return *functions_; }
  /** Counts the initialisations: handles are good for one value only (hsm.md, _Which object is the key_). */
  uint32_t initialisation() const { return initialisation_.load(std::memory_order_acquire); }
  /** Counts the handles that turned out to be another object's, or nobody's: none that was found before is good. */
  uint32_t renumberings() const { return renumberings_.load(std::memory_order_acquire); }
  /** The IVs that the token in `slot` has made in this process; lives as long as the process, over initialisations. */
  IvRecord& iv_record(CK_SLOT_ID slot) const {
    const std::lock_guard lock(iv_records_mutex_);
    return iv_records_[slot];
  }

 private:
  friend class ModuleRef;
  friend class ModuleRegistry;
  std::string real_path_;
  /** Held while it is loaded, initialised and finalised; of what follows. */
  std::mutex use_mutex_;
  /** Null until it is loaded. */
  CK_FUNCTION_LIST* functions_ = nullptr;
  std::string init_args_;
  uint32_t references_ = 0;
  bool finalize_is_ours_ = false;
  /** A C_Finalize is out: no other call may enter. */
  std::atomic<bool> abandoned_{false};
  std::atomic<uint32_t> initialisation_{0};
  std::atomic<uint32_t> renumberings_{0};
  mutable std::mutex iv_records_mutex_;
  mutable std::map<CK_SLOT_ID, IvRecord> iv_records_;
};

/** One reference to a loaded module. Movable. Must be given back by Release, never by destruction at process exit. */
class ModuleRef {
 public:
  ModuleRef() = default;
  ModuleRef(ModuleRef&& other) noexcept : module_(other.module_) { other.module_ = nullptr; }
  ModuleRef& operator=(ModuleRef&&) = delete;
  ~ModuleRef() { Release(); }

  /**
   * Loads and initialises the module at `path`, or refers to it again. A module that was finalised by somebody else
   * meanwhile is initialised again.
   */
  Outcome Acquire(const std::string& path, const std::string& init_args);
  /** The last reference calls C_Finalize. */
  Outcome Release();

  void CountRenumbering() { module_->renumberings_.fetch_add(1, std::memory_order_acq_rel); }

  explicit operator bool() const { return module_ != nullptr; }
  const Module& operator*() const { return *module_; }
  const Module* operator->() const { return module_; }
  const std::string& real_path() const { return module_->real_path_; }

 private:
  Module* module_ = nullptr;
};

/** The path that references are counted under: realpath(3), or the path itself where there is none. */
std::string RealPath(const std::string& path);

/**
 * Marks a thread as being inside a module. While any is, exit(3) must not run the destructors of the module under it:
 * the exit handler that Acquire installs then ends the process by _exit(2).
 */
class InModule {
 public:
  /** @param counts what its calls count for, if for anything. */
  explicit InModule(CallCounts* counts = nullptr);
  ~InModule();
  InModule(const InModule&) = delete;
  InModule& operator=(const InModule&) = delete;

 private:
  CountedFor counted_;
};

}  // namespace xksd
