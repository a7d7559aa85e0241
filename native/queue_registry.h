// Operation queues by number, through which the workers of a process find the queue that they work for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "operation_queue.h"
#include "pkcs11_calls.h"

namespace xksd {

/** An operation queue, and where the calls of those who work on it are counted. */
struct CountedQueue {
  std::shared_ptr<OperationQueue> queue;
  std::shared_ptr<CallCounts> calls;
};

/** Queues by number, for the workers of this process to find. */
class QueueRegistry {
 public:
  // Never destroyed: environments may end after every static.
  static QueueRegistry& Instance() {
    static auto* instance = new QueueRegistry();
    return *instance;
  }

  uint32_t Add(const CountedQueue& added) {
    const std::lock_guard lock(mutex_);
    queues_.emplace(++last_, Entry{added.queue, added.calls});
    return last_;
  }
  CountedQueue Find(uint32_t id) {
    const std::lock_guard lock(mutex_);
    const auto found = queues_.find(id);
    if (found == queues_.end()) return {};
    return CountedQueue{found->second.queue.lock(), found->second.calls.lock()};
  }
  void Remove(uint32_t id) {
    const std::lock_guard lock(mutex_);
    queues_.erase(id);
  }

 private:
  std::mutex mutex_;
  struct Entry {
    std::weak_ptr<OperationQueue> queue;
    std::weak_ptr<CallCounts> calls;
  };
  uint32_t last_ = 0;
  std::map<uint32_t, Entry> queues_;
};

}  // namespace xksd
