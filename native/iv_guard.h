// What stands between an HSM that makes IVs and an answer: an IV that cannot be fresh is never used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

namespace xksd {

struct Iv {
  uint64_t head;
  uint32_t tail;

  static Iv Of(const uint8_t* bytes);
  bool operator==(const Iv& other) const { return head == other.head && tail == other.tail; }
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
   * in its place), or is among the last 1,024. Remembers it in any case.
   */
  bool Admit(const uint8_t* iv, const uint8_t* input);

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
  /** What 64 sessions remember each; some 4 MiB, and only of a token that makes IVs and has made so many. */
  static constexpr size_t kRemembered = 64 * IvGuard::kRemembered;

  /** @returns false when the IV (12 bytes) is among the last 65,536. Remembers it in any case. */
  bool Add(const uint8_t* iv);

 private:
  struct Hash {
    size_t operator()(const Iv& iv) const { return iv.head ^ (uint64_t{iv.tail} << 32) ^ iv.tail; }
  };

  std::mutex mutex_;
  std::unordered_set<Iv, Hash> known_;
  /** In the order in which they came, each once; from `next_` on the oldest, once there are kRemembered. */
  std::vector<Iv> order_;
  size_t next_ = 0;
};

}  // namespace xksd
