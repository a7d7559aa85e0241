#include "pkcs11_pool.h"

#include <string.h>

#include <algorithm>
#include <system_error>

namespace xksd {
namespace {

/** How long no further session is asked for after the token refused one. */
constexpr std::chrono::seconds kRefusedSessionPause{10};
/** An operation that took less will not keep the completion before it waiting for long. */
constexpr uint32_t kQuickMicros = 150;

uint32_t* WordOf(uint8_t* cell) { return reinterpret_cast<uint32_t*>(cell); }

/** Moves a cell from one state to the next unless it is no longer the cell that was meant. */
bool Move(uint8_t* cell, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(WordOf(cell), &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

constexpr uint32_t Word(uint32_t generation, uint32_t state) { return generation << cell::kStateBits | state; }

/** The lengths come from our own JavaScript, but an out-of-bounds read is not how to learn of a bug in it. */
bool IsSane(const cell::Header& header, size_t variable_bytes) {
  const size_t used = size_t{header.aad_bytes} + header.prefix_bytes + header.data_bytes;
  return used <= variable_bytes && used <= cell::kVariableBytesMax && header.iv_bytes <= cell::kIvBytesMax &&
         header.operation >= cell::kOperationEncrypt && header.operation <= cell::kOperationProbe &&
         header.key.object_id_bytes <= cell::kObjectIdBytesMax && header.key.witness_bytes <= cell::kWitnessBytesMax &&
         header.canary.object_id_bytes <= cell::kObjectIdBytesMax &&
         header.canary.witness_bytes <= cell::kWitnessBytesMax;
}

/** The token is well but has no session left (PKCS#11 v2.40 §5.6, C_OpenSession): that is no failure of an operation. */
bool IsSessionRefused(const Outcome& outcome) {
  constexpr CK_RV kHostMemory = 0x2, kDeviceMemory = 0x31, kSessionCount = 0xb1, kTokenResourceExceeded = 0x201;
  return outcome.function == Function::kOpenSession &&
         (outcome.rv == kSessionCount || outcome.rv == kDeviceMemory || outcome.rv == kHostMemory ||
          outcome.rv == kTokenResourceExceeded);
}

}  // namespace

Outcome SessionPool::Open(PoolOptions options, std::shared_ptr<SessionPool>* opened) {
  const auto invalid = [](const char* message) { return Outcome{CKR_OK, false, Function::kNone, message}; };
  if (options.sessions_max < 1 || options.sessions_max > kSessionsMax) return invalid("sessions are out of range");
  if (options.queue == nullptr) return invalid("the operation queue is gone");
  if (options.memory_bytes < sizeof(cell::Control)) return invalid("the cells are too small");
  cell::Control control;
  memcpy(&control, options.memory, sizeof control);
  const size_t needed = sizeof control + size_t{control.small_cells} * control.small_cell_bytes +
                        size_t{control.large_cells} * control.large_cell_bytes;
  if (needed > options.memory_bytes || control.small_cell_bytes < sizeof(cell::Header) ||
      control.large_cell_bytes < control.small_cell_bytes || control.small_cell_bytes % 64 != 0 ||
      control.large_cell_bytes % 64 != 0) {
    return invalid("the cells are laid out otherwise");
  }

  std::shared_ptr<SessionPool> pool(new SessionPool());
  pool->queue_ = std::move(options.queue);
  pool->memory_ = options.memory;
  pool->sessions_max_ = options.sessions_max;
  pool->session_idle_ = options.session_idle;
  pool->small_cells_ = control.small_cells;
  pool->small_cell_bytes_ = control.small_cell_bytes;
  pool->large_cells_ = control.large_cells;
  pool->large_cell_bytes_ = control.large_cell_bytes;
  pool->context_.slot = options.slot;
  pool->context_.calls = std::move(options.calls);
  pool->context_.witness_plaintext = std::move(options.witness_plaintext);
  pool->context_.witness_aad = std::move(options.witness_aad);
  const Outcome loaded = pool->context_.module.Acquire(options.module_path, options.init_args);
  if (!loaded.ok()) return loaded;
  Lane* const lane = pool->FreeLane();
  const Outcome first = lane->session.Open(pool->LoginEpoch(options.memory));
  if (!first.ok()) return first;
  pool->Join(*lane, true);
  pool->queue_->AddSource(pool);
  *opened = std::move(pool);
  return {};
}

SessionPool::~SessionPool() {
  for (auto& lane : lanes_) {
    // The last reference may be that of a thread which was left to itself and has now come back.
    if (lane->thread.joinable()) lane->thread.detach();
  }
}

/** A lane that nobody is in; `nullptr` when there is none left. */
SessionPool::Lane* SessionPool::FreeLane() {
  for (size_t i = 1; i < lanes_.size(); ++i) {
    if (lanes_[i]->ended) return lanes_[i].get();
  }
  if (lanes_.size() >= sessions_max_) return nullptr;
  auto lane = std::make_unique<Lane>(context_);
  lane->memory = memory_;
  lane->request.variable.reserve(large_cell_bytes_);
  lanes_.push_back(std::move(lane));
  return lanes_.back().get();
}

bool SessionPool::OpenLane() {
  const std::lock_guard lock(mutex_);
  if (closed_) return false;
  if (refused_epoch_ == LoginEpoch(memory_) &&
      std::chrono::steady_clock::now() - refused_at_ < kRefusedSessionPause) {
    return false;
  }
  Lane* const lane = FreeLane();
  if (lane == nullptr) return false;
  Join(*lane, false);
  // The lane's last thread is done with it. The next one waits until it has ended, not this one, which serves others: what a
  // module does as a thread ends may take long.
  const auto last = std::make_shared<std::thread>(std::move(lane->thread));
  try {
    // The thread keeps the pool, and with it the module: both outlive a call that never returns.
    lane->thread = std::thread([pool = shared_from_this(), lane, last] {
      if (last->joinable()) last->join();
      pool->RunLane(*lane);
    });
  } catch (const std::system_error&) {
    lane->thread = std::move(*last);
    Leave(*lane);
    refused_epoch_ = LoginEpoch(memory_);
    refused_at_ = std::chrono::steady_clock::now();
    return false;
  }
  lane->ended = false;
  return true;
}

uint32_t SessionPool::LoginEpoch(const uint8_t* memory) const {
  return __atomic_load_n(&reinterpret_cast<const cell::Control*>(memory)->login_epoch, __ATOMIC_ACQUIRE);
}

uint8_t* SessionPool::CellAt(uint8_t* memory, uint32_t index, size_t* cell_bytes) const {
  uint8_t* cells = memory + sizeof(cell::Control);
  if (index < small_cells_) {
    *cell_bytes = small_cell_bytes_;
    return cells + size_t{index} * small_cell_bytes_;
  }
  index -= small_cells_;
  if (index >= large_cells_) return nullptr;
  *cell_bytes = large_cell_bytes_;
  return cells + size_t{small_cells_} * small_cell_bytes_ + size_t{index} * large_cell_bytes_;
}

void SessionPool::Execute(Lane& lane, CellRef ref) {
  Request& request = lane.request;
  const uint32_t running = Word(ref.generation, cell::kRunning);
  uint32_t login_epoch = 0;
  bool sane = false;
  bool completed = false;
  {
    const std::lock_guard lease(lane.lease);
    if (lane.memory == nullptr) return;
    size_t cell_bytes = 0;
    uint8_t* const taken = CellAt(lane.memory, ref.index, &cell_bytes);
    if (taken == nullptr) return;
    // Withdrawn at its deadline, and perhaps somebody else's by now: not ours to touch.
    if (!Move(taken, Word(ref.generation, cell::kSubmitted), running)) return;
    lane.taken = taken;
    lane.taken_ref = ref;
    memcpy(&request.header, taken, sizeof request.header);
    sane = IsSane(request.header, cell_bytes - sizeof request.header);
    if (sane) {
      const uint8_t* variable = taken + sizeof request.header;
      request.variable.assign(variable, variable + request.header.aad_bytes + request.header.prefix_bytes +
                                            request.header.data_bytes);
    }
    login_epoch = LoginEpoch(lane.memory);
  }

  if (sane) {
    lane.session.Execute(request, login_epoch);
  } else {
    request.header.result = cell::kFailed;
    request.header.rv = 0;
    request.header.function = 0;
    request.variable.clear();
  }

  {
    const std::lock_guard lease(lane.lease);
    if (lane.taken != nullptr) {
      memcpy(lane.taken + sizeof request.header.word,
             reinterpret_cast<const uint8_t*>(&request.header) + sizeof request.header.word,
             sizeof request.header - sizeof request.header.word);
      if (sane) {
        const size_t before_data = size_t{request.header.aad_bytes} + request.header.prefix_bytes;
        if (request.header.data_bytes > 0) {
          memcpy(lane.taken + sizeof request.header + before_data, request.data(), request.header.data_bytes);
        }
      }
      Move(lane.taken, running, Word(ref.generation, cell::kDone));
      lane.taken = nullptr;
      completed = true;
    }
  }
  if (completed) queue_->Complete(ref, request.header.micros < kQuickMicros);
  if (!request.variable.empty()) explicit_bzero(request.variable.data(), request.variable.size());
}

size_t SessionPool::Work(std::chrono::milliseconds shift) {
  const auto until = OperationQueue::Clock::now() + shift;
  Lane* lane = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return 0;
    lane = lanes_.front().get();
    lane->ended = false;
  }
  size_t carried = 0;
  CellRef cell{};
  while (queue_->Take(lane->place, &until, &cell) == OperationQueue::Next::kOperation) {
    Execute(*lane, cell);
    ++carried;
    if (OperationQueue::Clock::now() >= until) break;
  }
  queue_->Pause(lane->place);
  const std::lock_guard lock(mutex_);
  // Closed meanwhile, and given up on: the session is still this thread's to close.
  if (closed_) lane->session.Close();
  lane->ended = true;
  lane_ended_.notify_all();
  return carried;
}

bool SessionPool::HasSession(Lane& lane) {
  uint32_t login_epoch = 0;
  {
    const std::lock_guard lease(lane.lease);
    if (lane.memory == nullptr) return false;
    login_epoch = LoginEpoch(lane.memory);
  }
  const Outcome opened = lane.session.Open(login_epoch);
  // Any other failure is the operation's to meet, and to report.
  if (opened.ok() || !IsSessionRefused(opened)) return true;
  const std::lock_guard lock(mutex_);
  refused_epoch_ = login_epoch;
  refused_at_ = std::chrono::steady_clock::now();
  return false;
}

void SessionPool::RunLane(Lane& lane) {
  CellRef cell{};
  const auto take = [&] {
    // Lanes that rested last are called first: those that a slow hour of a quick token has opened are left to rest, and end.
    auto next = OperationQueue::Next::kNothing;
    do {
      const auto until = OperationQueue::Clock::now() + session_idle_;
      next = queue_->Take(lane.place, &until, &cell);
    } while (next == OperationQueue::Next::kNothing && queue_->keeps_lanes());
    return next == OperationQueue::Next::kOperation;
  };
  // The session is there before an operation is taken, which others could carry out meanwhile.
  while (HasSession(lane) && take()) {
    // There may have been another login meanwhile.
    if (!HasSession(lane)) {
      queue_->PutBack(cell);
      break;
    }
    Execute(lane, cell);
  }
  EndLane(lane);
}

void SessionPool::EndLane(Lane& lane) {
  {
    // Before a call that may hang: another lane can be opened in its place.
    const std::lock_guard lock(mutex_);
    Leave(lane);
  }
  lane.session.Close();
  const std::lock_guard lock(mutex_);
  lane.ended = true;
  lane_ended_.notify_all();
}

/** Under the lock, or before anybody else knows the pool; so is Leave. */
void SessionPool::Join(Lane& lane, bool proven) {
  queue_->Join(lane.place, proven);
  lane.joined = true;
}

void SessionPool::Leave(Lane& lane) {
  if (lane.joined) queue_->Leave(lane.place);
  lane.joined = false;
}

size_t SessionPool::Close(std::chrono::milliseconds grace) {
  std::unique_lock lock(mutex_);
  if (closed_) return 0;
  closed_ = true;
  for (auto& lane : lanes_) queue_->Dismiss(lane->place);
  lane_ended_.wait_for(lock, grace, [&] {
    return std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->ended; });
  });
  size_t left = 0;
  for (auto& lane : lanes_) {
    if (!lane->ended) {
      ++left;
      // Whoever is in it counts for nothing any more.
      Leave(*lane);
    }
    bool given_back = false;
    {
      const std::lock_guard lease(lane->lease);
      if (lane->taken != nullptr) {
        auto* header = reinterpret_cast<cell::Header*>(lane->taken);
        header->result = cell::kFailed;
        header->rv = 0;
        header->function = 0;
        header->login_lost = 0;
        // Its call is out, and nobody will hear of it again.
        header->encryptions = header->operation == cell::kOperationEncrypt ? cell::kEncryptionsMax : 0;
        const uint32_t generation = lane->taken_ref.generation;
        Move(lane->taken, Word(generation, cell::kRunning), Word(generation, cell::kDone));
        lane->taken = nullptr;
        given_back = true;
      }
      lane->memory = nullptr;
    }
    if (given_back) queue_->Complete(lane->taken_ref, false);
    if (!lane->thread.joinable()) continue;
    if (lane->ended) {
      lane->thread.join();
    } else {
      lane->thread.detach();
    }
  }
  memory_ = nullptr;
  Lane& first = *lanes_.front();
  const bool first_ended = first.ended;
  if (first_ended) Leave(first);
  lock.unlock();
  if (first_ended) first.session.Close();
  // What is left keeps the module; otherwise it is given back here, where C_Finalize may be waited for.
  if (left == 0) context_.module.Release();
  return left;
}

}  // namespace xksd
