// Operations on their way between the thread that submits them and the lanes that carry them out, in one process. It
// knows cells by number only: their bytes are the business of both ends.
//
// The submitting side calls Submit, Forget, AllowLanes and Collect; each lane calls Take in a loop and Complete after
// every operation. No lock is held while anything is carried out.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace xksd {

/** A cell as the submitting side names it. It is the cell that was meant only while the generation is the same. */
struct CellRef {
  uint32_t index;
  uint32_t generation;
};

/** Where more lanes come from: the session pool of a worker. */
class LaneSource {
 public:
  virtual ~LaneSource() = default;
  /** Starts one more lane. @returns false when there can be none now. */
  virtual bool OpenLane() = 0;
};

class OperationQueue {
 public:
  using Clock = std::chrono::steady_clock;
  /** Operations waiting for a lane; there are not as many cells. */
  static constexpr size_t kWaitingMax = 1024;
  /** Completions of quick operations that share a wake while more are waiting. */
  static constexpr size_t kAnnouncedTogether = 8;

  /** A lane's place in the queue; the lane owns it. Used under the queue's lock only. */
  class Lane {
   private:
    friend class OperationQueue;
    /** Shared with who calls, and does so without the lock: the lane may be gone by then. */
    std::shared_ptr<std::condition_variable> called_ = std::make_shared<std::condition_variable>();
    /** Called, or carrying something out. */
    bool active_ = false;
    /** Called for an operation that it has not come for yet. */
    bool coming_ = false;
    bool proven_ = false;
    bool dismissed_ = false;
  };
  enum class Next { kOperation, kNothing, kDismissed };

  /** `completed` is called on a lane's thread, once for all completions until the next Collect. */
  explicit OperationQueue(std::function<void()> completed) : completed_(std::move(completed)) {}

  // --- the submitting side ---

  /**
   * Adds operations and lets up to `lanes` lanes work; wakes those that rest or, where there are fewer, opens more.
   * @returns how many of the operations, from the first; the others found the queue full or stopped.
   */
  size_t Submit(const CellRef* cells, size_t count, size_t lanes);
  /** Lets up to `lanes` lanes work from now on. Those above that rest after what they have in hand. */
  void AllowLanes(size_t lanes);
  /** Whether lanes that have rested for long stay all the same, as is so until this is called: opening one takes long. */
  void KeepLanes(bool keep) { keeps_lanes_.store(keep); }
  /** Takes an operation out that has been withdrawn, if no lane has taken it. */
  void Forget(CellRef cell);
  /** Moves up to `max` completions to `done`. @returns how many; fewer than `max` when these were all. */
  size_t Collect(CellRef* done, size_t max);
  /** Sends every lane away; nothing is taken any more. */
  void Stop();

  size_t waiting();
  /** Lanes that there are, whatever they do. */
  size_t lanes();
  /** Lanes that are known to work: each has carried out an operation, or had its session opened at the start. */
  size_t proven();

  // --- the lanes' side ---

  bool keeps_lanes() const { return keeps_lanes_.load(); }

  void AddSource(std::weak_ptr<LaneSource> source);
  /** `proven`: whether its session is open. */
  void Join(Lane& lane, bool proven);
  void Leave(Lane& lane);
  /** Says that the lane is done with what it took, and waits for the next operation; no longer than to `until`. */
  Next Take(Lane& lane, const Clock::time_point* until, CellRef* taken);
  /** Says the same without waiting: the lane is away for a while. */
  void Pause(Lane& lane);
  /** Gives an operation back that the lane could not begin: it is the next one again. */
  void PutBack(CellRef cell);
  /**
   * Tells the submitting side that native code is through with a cell. `more_soon`: the lane takes the next operation at
   * once and is quick with it, so that a few completions may share a wake.
   */
  void Complete(CellRef cell, bool more_soon);
  /** Takes no more. Wakes the lane where it waits. */
  void Dismiss(Lane& lane);

 private:
  /** Lanes to be called once the lock is free: one that wakes while it is held sleeps again at once. */
  using Calls = std::vector<std::shared_ptr<std::condition_variable>>;
  static void Notify(const Calls& calls);

  void Rest(Lane& lane);
  void CallNoMore(Lane& lane);
  void CallLanes(Calls* calls);
  void OpenMissingLanes();
  bool MustAnnounce();

  const std::function<void()> completed_;
  std::atomic<bool> keeps_lanes_{true};
  std::mutex mutex_;
  std::deque<CellRef> waiting_;
  std::vector<CellRef> done_;
  /** `completed` was called, and Collect has not been since. */
  bool announced_ = false;
  bool stopped_ = false;
  size_t allowed_ = 1;
  size_t active_ = 0;
  size_t coming_ = 0;
  size_t lanes_ = 0;
  size_t proven_ = 0;
  /** The one that rested last is called first: its caches are warm, and the others sleep on. */
  std::vector<Lane*> resting_;
  std::vector<std::weak_ptr<LaneSource>> sources_;
};

}  // namespace xksd
