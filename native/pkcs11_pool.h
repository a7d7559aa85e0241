// The sessions of one worker: one that is called on the worker's thread, or several with a native thread each. Takes
// operations out of cells and puts results back; everything between happens in memory of its own, so that a call
// which never returns is left alone with nothing of anybody's.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "crypto_cell.h"
#include "pkcs11_session.h"

namespace xksd {

/** A cell as a batch names it. It is the cell of that message only while the generation is the same. */
struct CellRef {
  uint32_t index;
  uint32_t generation;
};

/** Operations that were handed over together. */
class Batch {
 public:
  virtual ~Batch() = default;
  /** Called once, on the thread that finished the last operation. */
  virtual void Done() = 0;

  std::atomic<size_t> remaining{0};
};

struct PoolOptions {
  std::string module_path;
  std::string init_args;
  CK_SLOT_ID slot = 0;
  size_t sessions = 1;
  uint8_t* memory = nullptr;
  size_t memory_bytes = 0;
  std::vector<uint8_t> witness_plaintext;
  std::vector<uint8_t> witness_aad;
};

class SessionPool : public std::enable_shared_from_this<SessionPool> {
 public:
  static constexpr size_t kSessionsMax = 256;

  /** Opens the first session, to know that sessions can be opened, and starts the threads. */
  static Outcome Open(PoolOptions options, std::shared_ptr<SessionPool>* opened);
  ~SessionPool();

  /** For a pool with one session: carries the operations out on this thread. */
  void Run(const std::vector<CellRef>& cells);
  /** For a pool with threads: hands the operations to them. */
  void Submit(const std::vector<CellRef>& cells, std::shared_ptr<Batch> batch);
  /**
   * Lets go of the memory, ends the threads and closes the sessions; waits `grace` for calls that are out. The cells
   * of those that stay out are given back as failed. @returns how many threads were left inside the module.
   */
  size_t Close(std::chrono::milliseconds grace);

 private:
  struct Job {
    CellRef cell;
    std::shared_ptr<Batch> batch;
  };
  /** One session, and what its thread is doing. */
  struct Lane {
    explicit Lane(TokenContext& context) : session(context) {}
    CryptoSession session;
    Request request{};
    /** Guards the memory while this lane copies from or to it; `memory` is null once the pool has let go. */
    std::mutex lease;
    uint8_t* memory = nullptr;
    /** The cell that this lane has taken, while it has. */
    uint8_t* taken = nullptr;
    uint32_t taken_word = 0;
    std::thread thread;
    bool ended = false;
  };

  SessionPool() = default;
  uint8_t* CellAt(uint8_t* memory, uint32_t index, size_t* cell_bytes) const;
  void Execute(Lane& lane, CellRef cell);
  void RunLane(Lane& lane);
  uint32_t LoginEpoch(const uint8_t* memory) const;

  TokenContext context_;
  size_t memory_bytes_ = 0;
  uint32_t small_cells_ = 0;
  uint32_t small_cell_bytes_ = 0;
  uint32_t large_cells_ = 0;
  uint32_t large_cell_bytes_ = 0;
  std::vector<std::unique_ptr<Lane>> lanes_;

  std::mutex mutex_;
  std::condition_variable work_or_stop_;
  std::condition_variable lane_ended_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
};

}  // namespace xksd
