// The sessions of one worker. Each is a lane: it takes operations off the queue, one at a time, out of their cells,
// and puts results back. The first is worked by the worker's own thread while it is on shift; the others have native
// threads, which are started when they are wanted. Everything between taking and putting back happens in memory of
// the lane's own, so that a call which never returns is left alone with nothing of anybody's.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "crypto_cell.h"
#include "operation_queue.h"
#include "pkcs11_session.h"

namespace xksd {

struct PoolOptions {
  std::string module_path;
  std::string init_args;
  CK_SLOT_ID slot = 0;
  /** Lanes at most, the first one included. */
  size_t sessions_max = 1;
  /** A lane besides the first that has had nothing to do for so long ends, with its session, unless the queue keeps it. */
  std::chrono::milliseconds session_idle{0};
  uint8_t* memory = nullptr;
  size_t memory_bytes = 0;
  std::shared_ptr<OperationQueue> queue;
  /** Where the calls are counted; may be null. */
  std::shared_ptr<CallCounts> calls;
  std::vector<uint8_t> witness_plaintext;
  std::vector<uint8_t> witness_aad;
};

class SessionPool : public LaneSource, public std::enable_shared_from_this<SessionPool> {
 public:
  static constexpr size_t kSessionsMax = 256;

  /** Opens the first session, to know that sessions can be opened. */
  static Outcome Open(PoolOptions options, std::shared_ptr<SessionPool>* opened);
  ~SessionPool() override;

  /** One more native thread with a session. None while the token is known to refuse another session. */
  bool OpenLane() override;
  /**
   * Works the first lane on this thread: carries operations out until `shift` is over, one at least if there is one.
   * @returns how many.
   */
  size_t Work(std::chrono::milliseconds shift);
  /**
   * Lets go of the memory, ends the threads and closes the sessions; waits `grace` for calls that are out. The cells
   * of those that stay out are given back as failed. @returns how many threads were left inside the module.
   */
  size_t Close(std::chrono::milliseconds grace);

 private:
  /** One session, and what its thread is doing. */
  struct Lane {
    explicit Lane(TokenContext& context) : session(context) {}
    CryptoSession session;
    Request request{};
    OperationQueue::Lane place;
    /** Guards the memory while this lane copies from or to it; `memory` is null once the pool has let go. */
    std::mutex lease;
    uint8_t* memory = nullptr;
    /** The cell that this lane has taken, while it has. */
    uint8_t* taken = nullptr;
    CellRef taken_ref{};
    /** Not for the first lane. */
    std::thread thread;
    /** Whether no thread is in this lane. */
    bool ended = true;
    /** Whether it counts as a lane of the queue. */
    bool joined = false;
  };

  SessionPool() = default;
  uint8_t* CellAt(uint8_t* memory, uint32_t index, size_t* cell_bytes) const;
  void Execute(Lane& lane, CellRef cell);
  void RunLane(Lane& lane);
  /** Opens the lane's session where it is not open. @returns false when the token has no session left for it. */
  bool HasSession(Lane& lane);
  void EndLane(Lane& lane);
  void Join(Lane& lane, bool proven);
  void Leave(Lane& lane);
  Lane* FreeLane();
  uint32_t LoginEpoch(const uint8_t* memory) const;

  TokenContext context_;
  std::shared_ptr<OperationQueue> queue_;
  uint8_t* memory_ = nullptr;
  size_t sessions_max_ = 1;
  std::chrono::milliseconds session_idle_{0};
  uint32_t small_cells_ = 0;
  uint32_t small_cell_bytes_ = 0;
  uint32_t large_cells_ = 0;
  uint32_t large_cell_bytes_ = 0;

  std::mutex mutex_;
  std::condition_variable lane_ended_;
  /** The first is the worker's; those that have ended start again. */
  std::vector<std::unique_ptr<Lane>> lanes_;
  /** When the token, or the system, last refused one more, and under which login. */
  std::chrono::steady_clock::time_point refused_at_{};
  uint32_t refused_epoch_ = 0;
  bool closed_ = false;
};

}  // namespace xksd
