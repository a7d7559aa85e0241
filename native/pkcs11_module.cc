#include "pkcs11_module.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

namespace xksd {
namespace {

/** A module that does not come back from C_Finalize is left alone after this. */
constexpr std::chrono::milliseconds kFinalizeMax{2000};
/** How long exit(3) waits for calls that are about to return. */
constexpr int kExitWaitMs = 100;

std::atomic<int> threads_in_module{0};

void EndDespiteCalls(int status, void*) {
  for (int i = 0; i < kExitWaitMs && threads_in_module.load() > 0; ++i) {
    const timespec millisecond{0, 1000000};
    nanosleep(&millisecond, nullptr);
  }
  if (threads_in_module.load() > 0) _exit(status);
}

CK_RV Initialize(CK_FUNCTION_LIST* functions, const std::string& init_args) {
  CK_C_INITIALIZE_ARGS args{};
  args.flags = CKF_OS_LOCKING_OK;  // PKCS#11 v2.40 §5.4: the module may use the system's locks, so threads may call it
  if (!init_args.empty()) args.LibraryParameters = init_args.c_str();
  return functions->C_Initialize(&args);
}

/**
 * C_Finalize on a thread of its own, because it may hang. `*abandoned` is set while it does, and cleared by the thread
 * should it come back after all. @returns false when it hung.
 */
bool Finalize(CK_FUNCTION_LIST* functions, std::atomic<bool>* abandoned, CK_RV* rv) {
  struct Call {
    std::mutex mutex;
    std::condition_variable returned;
    bool done = false;
    CK_RV rv = CKR_OK;
  };
  const auto call = std::make_shared<Call>();
  std::thread thread([call, functions, abandoned] {
    InModule in_module;
    const CK_RV result = functions->C_Finalize(nullptr);
    const std::lock_guard lock(call->mutex);
    call->rv = result;
    call->done = true;
    abandoned->store(false);
    call->returned.notify_one();
  });
  std::unique_lock lock(call->mutex);
  const bool returned = call->returned.wait_for(lock, kFinalizeMax, [&] { return call->done; });
  *rv = call->rv;
  // Under the call's lock: not after the thread has come back.
  if (!returned) abandoned->store(true);
  lock.unlock();
  if (returned) {
    thread.join();
  } else {
    thread.detach();
  }
  return returned;
}

Outcome Failure(Function function, CK_RV rv) { return Outcome{rv, true, function, {}}; }

Outcome LoadFailure(Function function, const char* message) {
  return Outcome{CKR_OK, false, function, message == nullptr ? "" : message};
}

}  // namespace

InModule::InModule(CallCounts* counts) : counted_(counts) { threads_in_module.fetch_add(1); }
InModule::~InModule() { threads_in_module.fetch_sub(1); }

class ModuleRegistry {
 public:
  // Never destroyed: detached threads may outlive every static.
  static ModuleRegistry& Instance() {
    static auto* instance = new ModuleRegistry();
    return *instance;
  }

  Outcome Acquire(const std::string& path, const std::string& init_args, Module** acquired) {
    Module* module = Find(RealPath(path));
    const std::lock_guard lock(module->use_mutex_);
    if (module->functions_ == nullptr) {
      Outcome outcome = Load(module);
      if (!outcome.ok()) return outcome;
    }
    if (module->abandoned_.load()) {
      return Outcome{CKR_OK, false, Function::kFinalize, "the module has not returned from C_Finalize yet"};
    }
    if (module->references_ == 0) {
      module->init_args_ = init_args;
      module->finalize_is_ours_ = false;
    } else if (module->init_args_ != init_args) {
      return Outcome{CKR_OK, false, Function::kInitialize, "the module is in use with other initialisation arguments"};
    }
    const CK_RV rv = Initialize(module->functions_, init_args);
    if (rv == CKR_OK) {
      module->initialisation_.fetch_add(1, std::memory_order_acq_rel);
      module->finalize_is_ours_ = true;
    } else if (rv != CKR_CRYPTOKI_ALREADY_INITIALIZED) {
      return Failure(Function::kInitialize, rv);
    }
    ++module->references_;
    *acquired = module;
    return {};
  }

  Outcome Release(Module* module) {
    const std::lock_guard lock(module->use_mutex_);
    if (--module->references_ > 0 || !module->finalize_is_ours_) return {};
    CK_RV rv = CKR_OK;
    if (!Finalize(module->functions_, &module->abandoned_, &rv)) {
      return Outcome{CKR_OK, false, Function::kFinalize, "the module did not return from C_Finalize"};
    }
    return rv == CKR_OK ? Outcome{} : Failure(Function::kFinalize, rv);
  }

 private:
  /** The one for this path, loaded or not. Lives as long as the process. */
  Module* Find(const std::string& real_path) {
    const std::lock_guard lock(mutex_);
    Module*& module = modules_[real_path];
    if (module == nullptr) {
      module = new Module();
      module->real_path_ = real_path;
    }
    return module;
  }

  static Outcome Load(Module* module) {
    int flags = RTLD_NOW | RTLD_LOCAL;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    // Node exports hundreds of OpenSSL symbols that would otherwise bind into a vendor's module. The sanitizers'
    // run times refuse it.
    flags |= RTLD_DEEPBIND;
#endif
    // Never dlclose'd: modules leave threads and thread-local destructors behind.
    void* library = dlopen(module->real_path_.c_str(), flags);
    if (library == nullptr) return LoadFailure(Function::kDlopen, dlerror());
    void* symbol = dlsym(library, "C_GetFunctionList");
    if (symbol == nullptr) return LoadFailure(Function::kDlsym, dlerror());
    CK_FUNCTION_LIST* functions = nullptr;
    const CK_RV rv = reinterpret_cast<CK_RV (*)(CK_FUNCTION_LIST**)>(symbol)(&functions);
    if (rv != CKR_OK || functions == nullptr) return Failure(Function::kGetFunctionList, rv);
    // Registered after the module's own destructors, so it runs before them.
    on_exit(EndDespiteCalls, nullptr);
    module->functions_ = Observe(functions, module->real_path_);
    return {};
  }

  /** Of the map alone: a module that hangs in C_Initialize keeps nobody from another one. */
  std::mutex mutex_;
  std::map<std::string, Module*> modules_;
};

std::string RealPath(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;
  std::string result(resolved);
  free(resolved);
  return result;
}

Outcome ModuleRef::Acquire(const std::string& path, const std::string& init_args) {
  return ModuleRegistry::Instance().Acquire(path, init_args, &module_);
}

Outcome ModuleRef::Release() {
  if (module_ == nullptr) return {};
  Module* module = module_;
  module_ = nullptr;
  return ModuleRegistry::Instance().Release(module);
}

}  // namespace xksd
