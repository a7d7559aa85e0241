// The native hot path without Node, for AddressSanitizer, ThreadSanitizer and valgrind: loads a module through the fault shim,
// makes a key, and puts operations through the queue and cells, on one session and on several, with failures, abandoned
// calls, and workers that end.
// Arguments: module, label, PIN, path of the shim's fault file. Ends with 0 when all was as expected.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

// One translation unit: a sanitizer build compiles the standard library's headers once, not six times.
#include "../../native/gcm_parameters.cc"
#include "../../native/iv_guard.cc"
#include "../../native/operation_queue.cc"
#include "../../native/pkcs11_calls.cc"
#include "../../native/pkcs11_gcm.cc"
#include "../../native/pkcs11_module.cc"
#include "../../native/pkcs11_pool.cc"
#include "../../native/pkcs11_session.cc"
#include "../../native/pkcs11_trace.cc"
#include "../../native/rv_class.cc"
#include "../../native/sha256.cc"

namespace {

using namespace xksd;

#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) {                                                          \
      fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);   \
      _exit(1);                                                                  \
    }                                                                            \
  } while (false)

constexpr uint32_t kSmallCells = 32;
constexpr uint32_t kSmallBytes = 1024;
constexpr uint32_t kLargeCells = 2;
constexpr uint32_t kLargeBytes = 49792;
constexpr uint8_t kObjectId[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

std::string Hex(const uint8_t* bytes, size_t count) {
  std::string text;
  char digits[3];
  for (size_t i = 0; i < count; ++i) {
    snprintf(digits, sizeof digits, "%02x", bytes[i]);
    text += digits;
  }
  return text;
}

/** FIPS 180-4 examples (NIST CAVP). */
void CheckSha256() {
  const auto hash = [](const std::string& text, size_t step) {
    Sha256 sha;
    const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
    for (size_t at = 0; at < text.size(); at += step) sha.Update(bytes + at, std::min(step, text.size() - at));
    uint8_t digest[Sha256::kDigestBytes];
    sha.Final(digest);
    return Hex(digest, sizeof digest);
  };
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  for (const size_t step : {1UL, 3UL, 63UL, 64UL, 65UL, 1000UL}) {
    EXPECT(hash("", step) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT(hash("abc", step) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT(hash(two_blocks, step) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT(hash(std::string(1000000, 'a'), step) ==
           "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
}

/** The submitting side: a queue, and the wait for its completions. */
class Submitter {
 public:
  Submitter() : queue_(std::make_shared<OperationQueue>([this] { Wake(); })) {}
  const std::shared_ptr<OperationQueue>& queue() const { return queue_; }
  const std::shared_ptr<CallCounts>& calls() const { return calls_; }

  void Submit(const std::vector<CellRef>& refs, size_t lanes) {
    EXPECT(queue_->Submit(refs.data(), refs.size(), lanes) == refs.size());
  }
  /** Waits for so many completions. */
  void Await(size_t count) {
    while (count > 0) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return woken_; });
        woken_ = false;
      }
      // Fewer at once than there may be: what is left has no wake of its own.
      CellRef done[5];
      for (size_t more = queue_->Collect(done, 5); more > 0; more = queue_->Collect(done, 5)) {
        EXPECT(more <= count);
        count -= more;
      }
    }
  }

 private:
  void Wake() {
    const std::lock_guard lock(mutex_);
    woken_ = true;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  std::shared_ptr<OperationQueue> queue_;
  std::shared_ptr<CallCounts> calls_ = std::make_shared<CallCounts>();
};

/** The worker's thread: one short shift after the other. */
class Worker {
 public:
  explicit Worker(std::shared_ptr<SessionPool> pool) : pool_(std::move(pool)), thread_([this] { Run(); }) {}
  ~Worker() { End(); }
  void End() {
    ended_.store(true);
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Run() {
    while (!ended_.load()) pool_->Work(std::chrono::milliseconds(2));
  }

  std::shared_ptr<SessionPool> pool_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

/** Plays JavaScript's part: fills cells, submits, consumes. */
class Cells {
 public:
  /** Of every operation: how the token wants AES-GCM. */
  uint32_t form_flags = 0;

  Cells() : bytes_(sizeof(cell::Control) + kSmallCells * kSmallBytes + kLargeCells * kLargeBytes) {
    const cell::Control control{1, kSmallCells, kSmallBytes, kLargeCells, kLargeBytes, {}};
    memcpy(bytes_.data(), &control, sizeof control);
  }
  uint8_t* memory() { return bytes_.data(); }
  size_t bytes() const { return bytes_.size(); }

  uint8_t* At(uint32_t index) {
    uint8_t* cells = bytes_.data() + sizeof(cell::Control);
    return index < kSmallCells ? cells + index * kSmallBytes
                               : cells + kSmallCells * kSmallBytes + (index - kSmallCells) * kLargeBytes;
  }
  cell::Header& Header(uint32_t index) { return *reinterpret_cast<cell::Header*>(At(index)); }
  uint8_t* Data(uint32_t index) {
    return At(index) + sizeof(cell::Header) + Header(index).aad_bytes + Header(index).prefix_bytes;
  }
  CellRef Submit(uint32_t index, uint32_t operation, size_t aad_bytes, size_t data_bytes) {
    cell::Header& header = Header(index);
    header.operation = operation;
    header.flags = cell::kFlagVerify | cell::kFlagIntegrity | form_flags;
    header.aad_bytes = static_cast<uint32_t>(aad_bytes);
    header.prefix_bytes = operation == cell::kOperationEncrypt ? static_cast<uint32_t>(aad_bytes) : 0;
    header.data_bytes = static_cast<uint32_t>(data_bytes);
    if (operation == cell::kOperationEncrypt) header.iv_bytes = 0;
    header.key.object_id_bytes = sizeof kObjectId;
    memcpy(header.key.object_id, kObjectId, sizeof kObjectId);
    const uint32_t generation = __atomic_load_n(&header.word, __ATOMIC_ACQUIRE) >> cell::kStateBits;
    __atomic_store_n(&header.word, generation << cell::kStateBits | cell::kSubmitted, __ATOMIC_RELEASE);
    return CellRef{index, generation};
  }
  bool Done(CellRef ref) {
    return __atomic_load_n(&Header(ref.index).word, __ATOMIC_ACQUIRE) ==
           (ref.generation << cell::kStateBits | cell::kDone);
  }
  bool Withdraw(CellRef ref) {
    uint32_t submitted = ref.generation << cell::kStateBits | cell::kSubmitted;
    return __atomic_compare_exchange_n(&Header(ref.index).word, &submitted, (ref.generation + 1) << cell::kStateBits,
                                       false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  }
  void Release(CellRef ref) {
    __atomic_store_n(&Header(ref.index).word, (ref.generation + 1) << cell::kStateBits, __ATOMIC_RELEASE);
  }

 private:
  std::vector<uint8_t> bytes_;
};

void Carry(Submitter& submitter, size_t lanes, const std::vector<CellRef>& refs) {
  submitter.Submit(refs, lanes);
  submitter.Await(refs.size());
}

void SetFaults(const char* path, const char* rules) {
  const std::string fresh = std::string(path) + ".new";
  FILE* file = fopen(fresh.c_str(), "w");
  EXPECT(file != nullptr);
  fputs(rules, file);
  fclose(file);
  EXPECT(rename(fresh.c_str(), path) == 0);
}

std::shared_ptr<SessionPool> Open(const char* module, CK_SLOT_ID slot, size_t sessions, Cells& cells,
                                  const Submitter& submitter,
                                  std::chrono::milliseconds session_idle = std::chrono::minutes(1)) {
  PoolOptions options;
  options.module_path = module;
  options.slot = slot;
  options.sessions_max = sessions;
  options.session_idle = session_idle;
  options.queue = submitter.queue();
  options.calls = submitter.calls();
  options.memory = cells.memory();
  options.memory_bytes = cells.bytes();
  options.witness_plaintext = {1, 2, 3};
  options.witness_aad = {4, 5, 6};
  std::shared_ptr<SessionPool> pool;
  const Outcome outcome = SessionPool::Open(std::move(options), &pool);
  EXPECT(outcome.ok());
  return pool;
}

/** A round trip in every cell, then the same ciphertexts with a bit flipped. */
void CheckRoundTrips(Submitter& submitter, size_t lanes, Cells& cells) {
  std::vector<CellRef> refs;
  const auto bytes_of = [](uint32_t index) { return index < kSmallCells ? index * 3 : 16384; };
  const auto aad_of = [](uint32_t index) { return index < kSmallCells ? index : 16384; };
  for (uint32_t i = 0; i < kSmallCells + kLargeCells; ++i) {
    refs.push_back(cells.Submit(i, cell::kOperationEncrypt, aad_of(i), bytes_of(i)));
    memset(cells.Data(i), static_cast<int>(i), bytes_of(i));
  }
  Carry(submitter, lanes, refs);
  for (CellRef& ref : refs) {
    EXPECT(cells.Done(ref));
    if (cells.Header(ref.index).result != cell::kOk) {
      fprintf(stderr, "cell %u: %s in %s\n", ref.index, RvName(cells.Header(ref.index).rv).c_str(),
              FunctionName(static_cast<Function>(cells.Header(ref.index).function)));
    }
    EXPECT(cells.Header(ref.index).result == cell::kOk);
    const std::vector<uint8_t> ciphertext(cells.Data(ref.index), cells.Data(ref.index) + bytes_of(ref.index));
    cells.Release(ref);
    const bool tampered = ref.index % 5 == 4;
    if (tampered) cells.Header(ref.index).tag[0] ^= 1;
    ref = cells.Submit(ref.index, cell::kOperationDecrypt, aad_of(ref.index), bytes_of(ref.index));
    std::copy(ciphertext.begin(), ciphertext.end(), cells.Data(ref.index));
  }
  Carry(submitter, lanes, refs);
  for (const CellRef& ref : refs) {
    EXPECT(cells.Done(ref));
    const bool tampered = ref.index % 5 == 4;
    // No witness and no canary: an ambiguous failure is ours.
    EXPECT((cells.Header(ref.index).result == cell::kOk) == !tampered);
    if (!tampered) {
      for (uint32_t i = 0; i < bytes_of(ref.index); ++i) {
        EXPECT(cells.Data(ref.index)[i] == static_cast<uint8_t>(ref.index));
      }
    }
    cells.Release(ref);
  }
}

/** Cells that are withdrawn while lanes are taking them: each is either carried out or nobody's. */
void CheckWithdrawal(Submitter& submitter, size_t lanes, Cells& cells) {
  for (int round = 0; round < 20; ++round) {
    std::vector<CellRef> refs;
    for (uint32_t i = 0; i < kSmallCells; ++i) refs.push_back(cells.Submit(i, cell::kOperationEncrypt, 4, 16));
    submitter.Submit(refs, lanes);
    std::vector<CellRef> kept;
    for (auto ref = refs.rbegin(); ref != refs.rend(); ++ref) {
      if (!cells.Withdraw(*ref)) {
        kept.push_back(*ref);
      } else {
        submitter.queue()->Forget(*ref);
        memset(cells.At(ref->index) + sizeof(uint32_t), 0xee, kSmallBytes - sizeof(uint32_t));
        memset(&cells.Header(ref->index).canary, 0, sizeof(cell::KeyBlock));
        memset(&cells.Header(ref->index).key, 0, sizeof(cell::KeyBlock));
      }
      submitter.queue()->AllowLanes(1 + ref->index % lanes);
    }
    submitter.Await(kept.size());
    EXPECT(submitter.queue()->waiting() == 0);
    for (const CellRef& ref : kept) {
      EXPECT(cells.Done(ref));
      EXPECT(cells.Header(ref.index).result == cell::kOk);
      cells.Release(ref);
    }
  }
}

/** Workers end one after the other under load: the next takes what was only queued, and every cell comes back. */
void CheckWorkersThatEnd(const char* module, CK_SLOT_ID slot, size_t sessions) {
  Cells cells;
  Submitter submitter;
  for (int round = 0; round < 10; ++round) {
    std::vector<CellRef> refs;
    for (uint32_t i = 0; i < kSmallCells; ++i) refs.push_back(cells.Submit(i, cell::kOperationEncrypt, 4, 16));
    std::atomic<bool> collected{false};
    std::thread workers([&] {
      for (int one = 0; one < 2; ++one) {
        const auto pool = Open(module, slot, sessions, cells, submitter);
        // The second works until all is done.
        for (int shift = 0; one == 1 ? !collected.load() : shift < 3; ++shift) {
          pool->Work(std::chrono::milliseconds(one));
        }
        EXPECT(pool->Close(std::chrono::milliseconds(2000)) == 0);
      }
    });
    submitter.Submit(refs, sessions);
    submitter.Await(refs.size());
    collected.store(true);
    workers.join();
    EXPECT(submitter.queue()->lanes() == 0 && submitter.queue()->proven() == 0);
    for (const CellRef& ref : refs) {
      EXPECT(cells.Done(ref) && cells.Header(ref.index).result == cell::kOk);
      cells.Release(ref);
    }
  }
}

/** HSMs that make the IV, in each form; then ones whose IVs are zero, or come again: nothing of the ciphertext is out. */
void CheckIvsOfTheHsm(const char* module, CK_SLOT_ID slot, const char* faults) {
  const auto source = [](IvSource one) { return static_cast<uint32_t>(one) << cell::kFlagIvSourceShift; };
  struct Mode {
    const char* rules;
    uint32_t flags;
  };
  const Mode modes[] = {
      {"iv append\n", source(IvSource::kAppended)},
      {"iv in-place\n", source(IvSource::kInPlace)},
      {"iv zero-in\n", source(IvSource::kInPlace)},
      {"parameters without-iv-bits\n", source(IvSource::kCaller) | cell::kFlagWithoutIvBits},
      {"iv in-place\nparameters without-iv-bits\n", source(IvSource::kInPlace) | cell::kFlagWithoutIvBits},
  };
  const size_t lanes = 4;
  Cells cells;
  Submitter submitter;
  const auto pool = Open(module, slot, lanes, cells, submitter);
  {
    Worker worker(pool);
    for (const Mode& mode : modes) {
      SetFaults(faults, mode.rules);
      cells.form_flags = mode.flags;
      CheckRoundTrips(submitter, lanes, cells);
    }
    const Mode unsafe[] = {{"iv stays-zero\n", source(IvSource::kInPlace)},
                           {"iv in-place 1\n", source(IvSource::kInPlace)},
                           {"iv in-place\n", source(IvSource::kInPlace)}};
    for (const Mode& mode : unsafe) {
      SetFaults(faults, mode.rules);
      cells.form_flags = mode.flags;
      size_t refused = 0;
      for (int round = 0; round < 8; ++round) {
        const CellRef ref = cells.Submit(0, cell::kOperationEncrypt, 1, 64);
        Carry(submitter, 1, {ref});
        EXPECT(cells.Done(ref));
        if (cells.Header(0).result == cell::kUnsafeIv) {
          ++refused;
          for (int i = 0; i < 64; ++i) EXPECT(cells.Data(0)[i] == 0);
        } else {
          EXPECT(cells.Header(0).result == cell::kOk);
        }
        cells.Release(ref);
      }
      // All zeros; all but the first, whichever lane it came to; none.
      if (&mode == unsafe) EXPECT(refused == 8);
      if (&mode == unsafe + 1) EXPECT(refused == 7);
      if (&mode == unsafe + 2) EXPECT(refused == 0);
    }
  }
  SetFaults(faults, "");
  EXPECT(pool->Close(std::chrono::milliseconds(2000)) == 0);
}

/** A key with a witness: what is bad is refused three times, or twice where there is no time; what is opened after all was not. */
void CheckRefusals(const char* module, CK_SLOT_ID slot, const char* faults) {
  const std::vector<uint8_t> witness{1, 2, 3}, witness_aad{4, 5, 6};
  Cells cells;
  Submitter submitter;
  const auto pool = Open(module, slot, 1, cells, submitter);
  {
    Worker worker(pool);
    cell::Header& header = cells.Header(0);
    const auto carried = [&](uint32_t operation, size_t aad_bytes, const std::vector<uint8_t>& data) {
      const CellRef ref = cells.Submit(0, operation, aad_bytes, data.size());
      // Encrypts have their prefix between; nobody looks at what it is.
      std::copy(witness_aad.begin(), witness_aad.end(), cells.At(0) + sizeof(cell::Header));
      std::copy(data.begin(), data.end(), cells.Data(0));
      Carry(submitter, 1, {ref});
      EXPECT(cells.Done(ref));
      std::vector<uint8_t> result(cells.Data(0), cells.Data(0) + data.size());
      cells.Release(ref);
      return result;
    };
    const std::vector<uint8_t> sealed = carried(cell::kOperationEncrypt, witness_aad.size(), witness);
    EXPECT(header.result == cell::kOk);
    header.key.witness_bytes = static_cast<uint32_t>(sealed.size());
    memcpy(header.key.witness_iv, header.iv, sizeof header.key.witness_iv);
    memcpy(header.key.witness_tag, header.tag, sizeof header.key.witness_tag);
    memcpy(header.key.witness_ciphertext, sealed.data(), sealed.size());

    cells.form_flags = 3U << cell::kRefusalsWantedShift | 2U << cell::kRefusalsLeastShift;
    const auto decrypted = [&](int64_t micros_left) {
      header.refusals = 0;
      header.ask_until_micros = static_cast<uint32_t>(static_cast<int64_t>(MonotonicMicros()) + micros_left);
      return carried(cell::kOperationDecrypt, witness_aad.size(), sealed);
    };
    constexpr int64_t kLong = 60000000;
    header.tag[0] ^= 1;
    decrypted(kLong);
    EXPECT(header.result == cell::kBadCiphertext && header.refusals == 3);
    decrypted(-1);
    EXPECT(header.result == cell::kBadCiphertext && header.refusals == 2);
    cells.form_flags = 3U << cell::kRefusalsWantedShift | 3U << cell::kRefusalsLeastShift;
    decrypted(-1);
    EXPECT(header.result == cell::kFailed && header.refusals == (2 | cell::kDoubted));
    header.tag[0] ^= 1;
    SetFaults(faults, "C_Decrypt fail 0x5 1\n");
    EXPECT(decrypted(kLong) == witness && header.result == cell::kOk && header.refusals == (1 | cell::kSpurious));
    SetFaults(faults, "");
    EXPECT(decrypted(kLong) == witness && header.refusals == 0);
  }
  EXPECT(pool->Close(std::chrono::milliseconds(2000)) == 0);
}

/** As many IVs as are remembered, and not one more. */
void CheckIvGuard() {
  const uint8_t zero[IvGuard::kIvBytes] = {};
  const auto iv = [](size_t number) {
    std::array<uint8_t, IvGuard::kIvBytes> bytes{};
    memcpy(bytes.data() + 4, &number, sizeof number);
    return bytes;
  };
  const IvKey one = IvKeyOf(iv(1).data(), IvGuard::kIvBytes);
  const IvKey other = IvKeyOf(iv(2).data(), IvGuard::kIvBytes);
  EXPECT(one != other && one == IvKeyOf(iv(1).data(), IvGuard::kIvBytes));
  IvGuard guard;
  EXPECT(!guard.Admit(one, zero, iv(7).data()));
  EXPECT(!guard.Admit(one, iv(7).data(), iv(7).data()));
  for (size_t i = 100; i < 100 + IvGuard::kRemembered; ++i) EXPECT(guard.Admit(one, iv(i).data(), zero));
  EXPECT(!guard.Admit(one, iv(100).data(), zero));
  // 100 was remembered once more in the place of the first; 101 is the oldest now, and the next one pushes it out.
  EXPECT(guard.Admit(one, iv(7).data(), zero));
  EXPECT(guard.Admit(one, iv(101).data(), zero));
  EXPECT(!guard.Admit(one, iv(104).data(), zero));
  EXPECT(guard.Admit(other, iv(104).data(), zero));
  EXPECT(!guard.Admit(other, iv(104).data(), zero));
  EXPECT(!guard.Admit(other, zero, iv(7).data()));

  IvRecord record;
  for (size_t i = 0; i < IvRecord::kRemembered; ++i) EXPECT(record.Add(one, iv(i).data()));
  EXPECT(!record.Add(one, iv(0).data()));
  EXPECT(!record.Add(one, iv(IvRecord::kRemembered - 1).data()));
  EXPECT(record.Add(one, iv(IvRecord::kRemembered).data()));
  EXPECT(record.Add(one, iv(0).data()));
  EXPECT(!record.Add(one, iv(2).data()));
  EXPECT(record.Add(other, iv(2).data()));
  EXPECT(!record.Add(other, iv(2).data()));
  EXPECT(!record.Add(one, iv(4).data()));
}

/** A token that has one session only: the first lane does it all, and no operation fails for want of another. */
void CheckRefusedSessions(const char* module, CK_SLOT_ID slot, const char* faults) {
  Cells cells;
  Submitter submitter;
  const auto pool = Open(module, slot, 4, cells, submitter);
  SetFaults(faults, "C_OpenSession fail 0xb1\n");
  {
    Worker worker(pool);
    for (int round = 0; round < 3; ++round) {
      std::vector<CellRef> refs;
      for (uint32_t i = 0; i < kSmallCells; ++i) refs.push_back(cells.Submit(i, cell::kOperationEncrypt, 4, 16));
      Carry(submitter, 4, refs);
      for (const CellRef& ref : refs) {
        EXPECT(cells.Done(ref) && cells.Header(ref.index).result == cell::kOk);
        cells.Release(ref);
      }
      // Those that were refused have gone, and are not asked for again soon.
      while (submitter.queue()->lanes() > 1) std::this_thread::yield();
    }
  }
  SetFaults(faults, "");
  EXPECT(pool->Close(std::chrono::milliseconds(2000)) == 0);
}

/** Lanes that nothing comes for end, also while they are called, and come again when they are wanted. */
void CheckIdleLanes(const char* module, CK_SLOT_ID slot) {
  Cells cells;
  Submitter submitter;
  const auto pool = Open(module, slot, 4, cells, submitter, std::chrono::milliseconds(1));
  submitter.queue()->KeepLanes(false);
  {
    Worker worker(pool);
    for (int round = 0; round < 20; ++round) {
      std::vector<CellRef> refs;
      for (uint32_t i = 0; i < kSmallCells; ++i) refs.push_back(cells.Submit(i, cell::kOperationEncrypt, 4, 16));
      Carry(submitter, 4, refs);
      for (const CellRef& ref : refs) {
        EXPECT(cells.Done(ref) && cells.Header(ref.index).result == cell::kOk);
        cells.Release(ref);
      }
      // Every other time the next ones come while they are about to end.
      while (round % 2 == 0 && submitter.queue()->lanes() > 1) std::this_thread::yield();
    }
  }
  submitter.queue()->KeepLanes(true);
  std::vector<CellRef> refs;
  for (uint32_t i = 0; i < kSmallCells; ++i) refs.push_back(cells.Submit(i, cell::kOperationEncrypt, 4, 16));
  Carry(submitter, 4, refs);
  const size_t kept = submitter.queue()->lanes();
  EXPECT(pool->Work(std::chrono::milliseconds(20)) == 0);
  EXPECT(submitter.queue()->lanes() == kept);
  EXPECT(pool->Close(std::chrono::milliseconds(2000)) == 0);
  EXPECT(submitter.queue()->lanes() == 0 && submitter.queue()->proven() == 0);
}

/** Stopped while lanes rest, work and are submitted to: nothing is taken afterwards, and everybody comes home. */
void CheckStop(const char* module, CK_SLOT_ID slot) {
  for (int round = 0; round < 5; ++round) {
    Cells cells;
    Submitter submitter;
    const auto pool = Open(module, slot, 4, cells, submitter);
    std::thread worker([&] { pool->Work(std::chrono::milliseconds(60000)); });
    for (uint32_t i = 0; i < kSmallCells; ++i) {
      if (i == kSmallCells / 2) submitter.queue()->Stop();
      const CellRef ref = cells.Submit(i, cell::kOperationEncrypt, 4, 16);
      EXPECT(submitter.queue()->Submit(&ref, 1, 4) == (i < kSmallCells / 2 ? 1 : 0));
    }
    worker.join();
    EXPECT(pool->Close(std::chrono::milliseconds(2000)) == 0);
    CellRef done[kSmallCells];
    const size_t count = submitter.queue()->Collect(done, kSmallCells);
    for (size_t i = 0; i < count; ++i) EXPECT(cells.Done(done[i]));
  }
}

/** What finds no room is given back, the rest is taken. */
void CheckFull() {
  OperationQueue queue([] {});
  const std::vector<CellRef> refs(OperationQueue::kWaitingMax + 3, CellRef{0, 1});
  EXPECT(queue.Submit(refs.data(), 5, 1) == 5);
  EXPECT(queue.Submit(refs.data(), refs.size(), 1) == OperationQueue::kWaitingMax - 5);
  EXPECT(queue.Submit(refs.data(), 1, 1) == 0);
  EXPECT(queue.waiting() == OperationQueue::kWaitingMax);
}

/** A lane that was sent away is called no more, and may be given up before it has noticed. */
void CheckLaneGivenUp() {
  for (int round = 0; round < 300; ++round) {
    OperationQueue queue([] {});
    OperationQueue::Lane lane;
    queue.Join(lane, true);
    std::atomic<bool> begun{false};
    std::thread thread([&] {
      CellRef taken{};
      begun.store(true);
      EXPECT(queue.Take(lane, nullptr, &taken) == OperationQueue::Next::kDismissed);
    });
    while (!begun.load()) std::this_thread::yield();
    // At another point of its way into Take each time.
    for (int turn = 0; turn < round; ++turn) std::this_thread::yield();
    queue.Dismiss(lane);
    const CellRef cell{1, 1};
    EXPECT(queue.Submit(&cell, 1, 1) == 1);
    queue.Leave(lane);
    thread.join();
    EXPECT(queue.waiting() == 1);
  }
}

}  // namespace

/** Takes the trace of every call while all else goes on. */
class TraceReader {
 public:
  TraceReader() : thread_([this] { Run(); }) {}
  /** @returns how many calls there were. */
  size_t End() {
    ended_.store(true);
    thread_.join();
    return calls_;
  }

 private:
  void Run() {
    TracedCall call;
    for (;;) {
      const bool last = ended_.load();
      while (Trace()->Pop(&call)) {
        ++calls_;
        EXPECT(DescribeCall(call).find("\"function\":\"C_") == 1);
      }
      if (last) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::atomic<bool> ended_{false};
  size_t calls_ = 0;
  std::thread thread_;
};

int main(int argc, char** argv) {
  EXPECT(argc == 5);
  const char* module_path = argv[1];
  CheckSha256();
  CheckFull();
  CheckIvGuard();
  CheckLaneGivenUp();

  StartTracing();
  TraceReader trace;
  ModuleRef module;
  EXPECT(!ModuleRef().Acquire("/nonexistent.so", "").ok());
  EXPECT(module.Acquire(module_path, "").ok());
  const CK_FUNCTION_LIST& p11 = module->functions();
  CK_SLOT_ID slots[16];
  CK_ULONG count = 16;
  EXPECT(reinterpret_cast<CK_RV (*)(unsigned char, CK_SLOT_ID*, CK_ULONG*)>(p11.C_GetSlotList)(1, slots, &count) ==
         CKR_OK);
  CK_SLOT_ID slot = 0;
  for (CK_ULONG i = 0; i < count; ++i) {
    CK_TOKEN_INFO info{};
    EXPECT(p11.C_GetTokenInfo(slots[i], &info) == CKR_OK);
    if (strncmp(reinterpret_cast<char*>(info.label), argv[2], strlen(argv[2])) == 0) slot = slots[i];
  }
  CK_SESSION_HANDLE session = 0;
  constexpr CK_FLAGS kReadWrite = 2;
  EXPECT(p11.C_OpenSession(slot, CKF_SERIAL_SESSION | kReadWrite, nullptr, nullptr, &session) == CKR_OK);
  EXPECT(p11.C_Login(session, 1, reinterpret_cast<CK_BYTE*>(argv[3]), strlen(argv[3])) == CKR_OK);
  CK_ULONG object_class = CKO_SECRET_KEY;
  CK_ULONG key_type = CKK_AES;
  uint8_t yes = 1;
  uint8_t value[32] = {7};
  uint8_t id[16];
  memcpy(id, kObjectId, sizeof id);
  constexpr CK_ATTRIBUTE_TYPE kToken = 1, kValue = 0x11, kEncrypt = 0x104, kDecrypt = 0x105;
  CK_ATTRIBUTE attributes[] = {{CKA_CLASS, &object_class, sizeof object_class}, {CKA_KEY_TYPE, &key_type, sizeof key_type},
                               {kToken, &yes, 1}, {kEncrypt, &yes, 1}, {kDecrypt, &yes, 1},
                               {CKA_ID, id, sizeof id}, {kValue, value, sizeof value}};
  CK_OBJECT_HANDLE key = 0;
  EXPECT(p11.C_CreateObject(session, attributes, 7, &key) == CKR_OK);

  for (const size_t sessions : {size_t{1}, size_t{4}}) {
    Cells cells;
    Submitter submitter;
    const auto pool = Open(module_path, slot, sessions, cells, submitter);
    {
      Worker worker(pool);
      for (int round = 0; round < 5; ++round) CheckRoundTrips(submitter, sessions, cells);
      SetFaults(argv[4], "C_DecryptInit fail 0xb3 1\n");
      CheckRoundTrips(submitter, sessions, cells);
      SetFaults(argv[4], "C_Encrypt fail 0x30\n");
      const CellRef failing = cells.Submit(0, cell::kOperationEncrypt, 1, 1);
      Carry(submitter, sessions, {failing});
      EXPECT(cells.Done(failing) && cells.Header(0).result == cell::kTokenUnavailable);
      cells.Release(failing);
      SetFaults(argv[4], "");
      CheckWithdrawal(submitter, sessions, cells);
      CheckRoundTrips(submitter, sessions, cells);
      EXPECT(submitter.queue()->lanes() == sessions);
    }
    EXPECT(pool->Close(std::chrono::milliseconds(2000)) == 0);
    CheckWorkersThatEnd(module_path, slot, sessions);
  }
  CheckIvsOfTheHsm(module_path, slot, argv[4]);
  CheckRefusals(module_path, slot, argv[4]);
  CheckRefusedSessions(module_path, slot, argv[4]);
  CheckIdleLanes(module_path, slot);
  CheckStop(module_path, slot);

  // Closed while calls hang, on the worker's thread and on another: the cells come back as failed, and the memory is
  // gone before the calls return.
  Submitter submitter;
  auto memory = std::make_unique<Cells>();
  auto stuck = Open(module_path, slot, 2, *memory, submitter);
  SetFaults(argv[4], "C_Encrypt hang - 2\n");
  const std::vector<CellRef> refs{memory->Submit(0, cell::kOperationEncrypt, 1, 64),
                                  memory->Submit(1, cell::kOperationEncrypt, 1, 64)};
  std::thread worker([stuck] { stuck->Work(std::chrono::milliseconds(60000)); });
  submitter.Submit(refs, 2);
  puts("hanging");
  fflush(stdout);
  getchar();  // the test has seen both calls hang
  EXPECT(stuck->Close(std::chrono::milliseconds(1)) == 2);
  submitter.Await(refs.size());
  for (const CellRef& ref : refs) EXPECT(memory->Done(ref) && memory->Header(ref.index).result == cell::kFailed);
  EXPECT(submitter.queue()->lanes() == 0);
  const std::weak_ptr<SessionPool> kept = stuck;
  stuck.reset();
  memory.reset();
  SetFaults(argv[4], "");
  // Whoever hangs is in nobody's way.
  Cells cells;
  const auto next = Open(module_path, slot, 2, cells, submitter);
  {
    Worker another(next);
    CheckRoundTrips(submitter, 1, cells);
  }
  EXPECT(next->Close(std::chrono::milliseconds(2000)) == 0);
  puts("closed");
  fflush(stdout);
  worker.join();  // the test lets the calls return
  // The other lane's thread was left to itself, and the module must not go through its exit handlers under it.
  while (!kept.expired()) std::this_thread::yield();
  // A session pool that hung keeps the module until its threads are through.
  EXPECT(p11.C_CloseSession(session) == CKR_OK);
  EXPECT(module.Release().ok());
  std::vector<double> numbers(CallCounts::kNumbers);
  submitter.calls()->Read(numbers.data());
  EXPECT(std::any_of(numbers.begin(), numbers.end(), [](double number) { return number > 100; }));
  EXPECT(trace.End() + Trace()->dropped() > 1000);
  return 0;
}
