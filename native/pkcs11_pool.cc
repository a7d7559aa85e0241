#include "pkcs11_pool.h"

#include <string.h>

#include <algorithm>
#include <system_error>

namespace xksd {
namespace {

constexpr std::chrono::milliseconds kRefusedThreadsGrace{500};

uint32_t* WordOf(uint8_t* cell) { return reinterpret_cast<uint32_t*>(cell); }

/** Moves a cell from one state to the next unless it is no longer the cell that was meant. */
bool Move(uint8_t* cell, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(WordOf(cell), &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

constexpr uint32_t Word(uint32_t generation, uint32_t state) { return generation << cell::kStateBits | state; }

constexpr uint32_t GenerationOf(uint32_t word) { return word >> cell::kStateBits; }

/** The lengths come from our own JavaScript, but an out-of-bounds read is not how to learn of a bug in it. */
bool IsSane(const cell::Header& header, size_t variable_bytes) {
  const size_t used = size_t{header.aad_bytes} + header.prefix_bytes + header.data_bytes;
  return used <= variable_bytes && used <= cell::kVariableBytesMax && header.iv_bytes <= cell::kIvBytesMax &&
         header.operation >= cell::kOperationEncrypt && header.operation <= cell::kOperationProbe &&
         header.key.object_id_bytes <= cell::kObjectIdBytesMax && header.key.witness_bytes <= cell::kWitnessBytesMax &&
         header.canary.object_id_bytes <= cell::kObjectIdBytesMax &&
         header.canary.witness_bytes <= cell::kWitnessBytesMax;
}

}  // namespace

Outcome SessionPool::Open(PoolOptions options, std::shared_ptr<SessionPool>* opened) {
  const auto invalid = [](const char* message) { return Outcome{CKR_OK, false, Function::kNone, message}; };
  if (options.sessions < 1 || options.sessions > kSessionsMax) return invalid("sessions are out of range");
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
  pool->memory_bytes_ = options.memory_bytes;
  pool->small_cells_ = control.small_cells;
  pool->small_cell_bytes_ = control.small_cell_bytes;
  pool->large_cells_ = control.large_cells;
  pool->large_cell_bytes_ = control.large_cell_bytes;
  pool->context_.slot = options.slot;
  pool->context_.witness_plaintext = std::move(options.witness_plaintext);
  pool->context_.witness_aad = std::move(options.witness_aad);
  const Outcome loaded = pool->context_.module.Acquire(options.module_path, options.init_args);
  if (!loaded.ok()) return loaded;
  for (size_t i = 0; i < options.sessions; ++i) {
    pool->lanes_.push_back(std::make_unique<Lane>(pool->context_));
    pool->lanes_.back()->memory = options.memory;
    pool->lanes_.back()->request.variable.reserve(control.large_cell_bytes);
  }
  const Outcome first = pool->lanes_.front()->session.Open(pool->LoginEpoch(options.memory));
  if (!first.ok()) return first;
  if (options.sessions > 1) {
    try {
      for (auto& lane : pool->lanes_) {
        // Each thread keeps the pool, and with it the module: both outlive a call that never returns.
        lane->thread = std::thread([pool, &lane = *lane] { pool->RunLane(lane); });
      }
    } catch (const std::system_error&) {
      for (auto& lane : pool->lanes_) lane->ended = !lane->thread.joinable();
      pool->Close(kRefusedThreadsGrace);
      return invalid("the system refused a thread for every session");
    }
  }
  *opened = std::move(pool);
  return {};
}

SessionPool::~SessionPool() {
  for (auto& lane : lanes_) {
    // The last reference may be that of a thread which was left to itself and has now come back.
    if (lane->thread.joinable()) lane->thread.detach();
  }
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
  uint32_t login_epoch = 0;
  bool sane = false;
  {
    const std::lock_guard lease(lane.lease);
    if (lane.memory == nullptr) return;
    size_t cell_bytes = 0;
    uint8_t* const taken = CellAt(lane.memory, ref.index, &cell_bytes);
    if (taken == nullptr) return;
    // Withdrawn at its deadline, and perhaps somebody else's by now: not ours to touch.
    const uint32_t running = Word(ref.generation, cell::kRunning);
    if (!Move(taken, Word(ref.generation, cell::kSubmitted), running)) return;
    lane.taken = taken;
    lane.taken_word = running;
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
      Move(lane.taken, lane.taken_word, Word(GenerationOf(lane.taken_word), cell::kDone));
      lane.taken = nullptr;
    }
  }
  if (!request.variable.empty()) explicit_bzero(request.variable.data(), request.variable.size());
}

void SessionPool::Run(const std::vector<CellRef>& cells) {
  for (const CellRef cell : cells) Execute(*lanes_.front(), cell);
}

void SessionPool::Submit(const std::vector<CellRef>& cells, std::shared_ptr<Batch> batch) {
  batch->remaining.store(cells.size());
  if (cells.empty()) {
    batch->Done();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    for (const CellRef cell : cells) jobs_.push_back(Job{cell, batch});
  }
  if (cells.size() == 1) {
    work_or_stop_.notify_one();
  } else {
    work_or_stop_.notify_all();
  }
}

void SessionPool::RunLane(Lane& lane) {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      work_or_stop_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
      if (stopping_) break;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    Execute(lane, job.cell);
    if (job.batch->remaining.fetch_sub(1) == 1) job.batch->Done();
  }
  lane.session.Close();
  const std::lock_guard lock(mutex_);
  lane.ended = true;
  lane_ended_.notify_all();
}

size_t SessionPool::Close(std::chrono::milliseconds grace) {
  const bool threaded = lanes_.size() > 1;
  size_t left = 0;
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return 0;
    stopping_ = true;
    jobs_.clear();
    if (threaded) {
      work_or_stop_.notify_all();
      lane_ended_.wait_for(lock, grace, [&] {
        return std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->ended; });
      });
      for (auto& lane : lanes_) {
        if (!lane->ended) ++left;
      }
    }
  }
  for (auto& lane : lanes_) {
    bool ended = true;
    if (threaded) {
      const std::lock_guard lock(mutex_);
      ended = lane->ended;
    }
    {
      const std::lock_guard lease(lane->lease);
      if (lane->taken != nullptr) {
        auto* header = reinterpret_cast<cell::Header*>(lane->taken);
        header->result = cell::kFailed;
        header->rv = 0;
        header->function = 0;
        header->login_lost = 0;
        Move(lane->taken, lane->taken_word, Word(GenerationOf(lane->taken_word), cell::kDone));
        lane->taken = nullptr;
      }
      lane->memory = nullptr;
    }
    if (!threaded) {
      lane->session.Close();
    } else if (!lane->thread.joinable()) {
      lane->session.Close();
    } else if (ended) {
      lane->thread.join();
    } else {
      lane->thread.detach();
    }
  }
  // What is left keeps the module; otherwise it is given back here, where C_Finalize may be waited for.
  if (left == 0) context_.module.Release();
  return left;
}

}  // namespace xksd
