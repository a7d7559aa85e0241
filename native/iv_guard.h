// What stands between an HSM that makes IVs and an answer: an IV that cannot be fresh is never used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

namespace xksd {

/**
 * What stands for a key where IVs are remembered: HSMs that count their IVs for each key give the same ones to two of
 * them. Two keys that share one (in 2^64) are held to have no IV in common, as one key is.
 */
using IvKey = uint64_t;

/** @param object_id CKA_ID. */
IvKey IvKeyOf(const uint8_t* object_id, size_t bytes);

/** An IV under a key. */
struct Iv {
  uint64_t head;
  IvKey key;
  uint32_t tail;

  static Iv Of(IvKey key, const uint8_t* bytes);
  bool IsZero() const { return head == 0 && tail == 0; }
  bool operator==(const Iv& other) const { return head == other.head && tail == other.tail && key == other.key; }
};

/**
 * The last IVs of one session. Under one AES-GCM key an IV that comes twice gives away the key stream and the key of
 * the authentication (NIST SP 800-38D, appendix A), and a decrypt that verifies the ciphertext cannot see it.
 */
class IvGuard {
 public:
  static constexpr size_t kIvBytes = 12;
  static constexpr size_t kRemembered = 1024;

  /**
   * Whether an IV that an HSM made may be used: not when it is all zero, is `input` (12 bytes, what the HSM was given
   * in its place), or came under this key among the last 1,024 of all keys. Remembers it in any case.
   */
  bool Admit(IvKey key, const uint8_t* iv, const uint8_t* input);

 private:
  std::array<Iv, kRemembered> last_{};
  size_t count_ = 0;
  size_t next_ = 0;
};

/**
 * The last IVs of all sessions that this process has, or had, with one token: a session sees its own only, and one that
 * was opened anew none. Used by any thread.
 */
class IvRecord {
 public:
  /** What 64 sessions remember each; some 6 MiB, and only of a token that makes IVs and has made so many. */
  static constexpr size_t kRemembered = 64 * IvGuard::kRemembered;

  /** @returns false when the IV (12 bytes) came under this key among the last 65,536 of all keys. Remembers it in any case. */
  bool Add(IvKey key, const uint8_t* iv);

 private:
  struct Hash {
    size_t operator()(const Iv& iv) const { return iv.head ^ (uint64_t{iv.tail} << 32) ^ iv.tail ^ iv.key; }
  };

  std::mutex mutex_;
  std::unordered_set<Iv, Hash> known_;
  /** In the order in which they came, each once; from `next_` on the oldest, once there are kRemembered. */
  std::vector<Iv> order_;
  size_t next_ = 0;
};

}  // namespace xksd
