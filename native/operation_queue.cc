#include "operation_queue.h"

#include <algorithm>

namespace xksd {

size_t OperationQueue::Submit(const CellRef* cells, size_t count, size_t lanes) {
  Calls calls;
  bool missing = false;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return 0;
    count = std::min(count, kWaitingMax - std::min(kWaitingMax, waiting_.size()));
    waiting_.insert(waiting_.end(), cells, cells + count);
    allowed_ = lanes;
    CallLanes(&calls);
    missing = lanes_ < allowed_;
  }
  Notify(calls);
  if (missing) OpenMissingLanes();
  return count;
}

void OperationQueue::Notify(const Calls& calls) {
  for (const auto& called : calls) called->notify_one();
}

void OperationQueue::AllowLanes(size_t lanes) {
  Calls calls;
  bool missing = false;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    allowed_ = lanes;
    CallLanes(&calls);
    missing = lanes_ < allowed_ && !waiting_.empty();
  }
  Notify(calls);
  if (missing) OpenMissingLanes();
}

void OperationQueue::OpenMissingLanes() {
  size_t missing = 0;
  std::vector<std::weak_ptr<LaneSource>> sources;
  {
    const std::lock_guard lock(mutex_);
    sources_.erase(std::remove_if(sources_.begin(), sources_.end(), [](const auto& source) { return source.expired(); }),
                   sources_.end());
    sources = sources_;
    missing = allowed_ > lanes_ ? std::min(allowed_ - lanes_, waiting_.size()) : 0;
  }
  // Without the lock: opening a lane takes the source's, and joins the queue.
  for (const auto& weak : sources) {
    const std::shared_ptr<LaneSource> source = weak.lock();
    while (source != nullptr && missing > 0 && source->OpenLane()) --missing;
  }
}

void OperationQueue::Forget(CellRef cell) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](const CellRef& waiting) {
    return waiting.index == cell.index && waiting.generation == cell.generation;
  });
  if (found != waiting_.end()) waiting_.erase(found);
}

size_t OperationQueue::Collect(CellRef* done, size_t max) {
  const std::lock_guard lock(mutex_);
  const size_t count = std::min(max, done_.size());
  std::copy_n(done_.begin(), count, done);
  done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
  if (done_.empty()) announced_ = false;
  return count;
}

void OperationQueue::Stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  waiting_.clear();
  for (Lane* lane : resting_) lane->called_->notify_one();
}

size_t OperationQueue::waiting() {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

size_t OperationQueue::lanes() {
  const std::lock_guard lock(mutex_);
  return lanes_;
}

size_t OperationQueue::proven() {
  const std::lock_guard lock(mutex_);
  return proven_;
}

void OperationQueue::AddSource(std::weak_ptr<LaneSource> source) {
  const std::lock_guard lock(mutex_);
  sources_.push_back(std::move(source));
}

void OperationQueue::Join(Lane& lane, bool proven) {
  const std::lock_guard lock(mutex_);
  ++lanes_;
  lane.dismissed_ = false;
  lane.proven_ = proven;
  if (proven) ++proven_;
}

void OperationQueue::Leave(Lane& lane) {
  {
    const std::lock_guard lock(mutex_);
    --lanes_;
    if (lane.proven_) --proven_;
    lane.proven_ = false;
    // At once: a lane that was given up on and comes back now has proven nothing.
    Rest(lane);
  }
  Pause(lane);
}

/** The lane has nothing in hand any more. */
void OperationQueue::Rest(Lane& lane) {
  if (!lane.active_) return;
  lane.active_ = false;
  --active_;
  if (lane.coming_) --coming_;
  lane.coming_ = false;
}

/** Where the lane rests, it is called for no operation. */
void OperationQueue::CallNoMore(Lane& lane) {
  resting_.erase(std::remove(resting_.begin(), resting_.end(), &lane), resting_.end());
}

/** A lane for each operation that nobody is coming for, as far as lanes are allowed and resting. */
void OperationQueue::CallLanes(Calls* calls) {
  while (waiting_.size() > coming_ && active_ < allowed_ && !resting_.empty()) {
    Lane* const lane = resting_.back();
    resting_.pop_back();
    lane->active_ = true;
    lane->coming_ = true;
    ++active_;
    ++coming_;
    calls->push_back(lane->called_);
  }
}

OperationQueue::Next OperationQueue::Take(Lane& lane, const Clock::time_point* until, CellRef* taken) {
  std::unique_lock lock(mutex_);
  if (lane.active_ && !lane.proven_) {
    lane.proven_ = true;
    ++proven_;
  }
  Rest(lane);
  for (;;) {
    if (stopped_ || lane.dismissed_) {
      lock.unlock();
      Pause(lane);
      return Next::kDismissed;
    }
    if (!waiting_.empty() && (lane.active_ || active_ < allowed_)) {
      Rest(lane);
      lane.active_ = true;
      ++active_;
      *taken = waiting_.front();
      waiting_.pop_front();
      return Next::kOperation;
    }
    Rest(lane);
    if (MustAnnounce()) {
      lock.unlock();
      completed_();
      lock.lock();
      continue;
    }
    resting_.push_back(&lane);
    const auto woken = [&] { return lane.active_ || lane.dismissed_ || stopped_; };
    if (until == nullptr) {
      lane.called_->wait(lock, woken);
    } else {
      lane.called_->wait_until(lock, *until, woken);
    }
    if (lane.active_) continue;
    CallNoMore(lane);
    if (!stopped_ && !lane.dismissed_) return Next::kNothing;
  }
}

void OperationQueue::Pause(Lane& lane) {
  Calls calls;
  bool announce = false;
  {
    const std::lock_guard lock(mutex_);
    Rest(lane);
    CallLanes(&calls);
    announce = MustAnnounce();
  }
  Notify(calls);
  if (announce) completed_();
}

void OperationQueue::PutBack(CellRef cell) {
  Calls calls;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    waiting_.push_front(cell);
    CallLanes(&calls);
  }
  Notify(calls);
}

/** Completions that nobody has been told of. @returns whether to call `completed_` now, without the lock. */
bool OperationQueue::MustAnnounce() {
  if (done_.empty() || announced_) return false;
  announced_ = true;
  return true;
}

void OperationQueue::Complete(CellRef cell, bool more_soon) {
  {
    const std::lock_guard lock(mutex_);
    done_.push_back(cell);
    if (more_soon && !waiting_.empty() && done_.size() < kAnnouncedTogether) return;
    if (!MustAnnounce()) return;
  }
  completed_();
}

void OperationQueue::Dismiss(Lane& lane) {
  const std::lock_guard lock(mutex_);
  lane.dismissed_ = true;
  CallNoMore(lane);
  lane.called_->notify_one();
}

}  // namespace xksd
