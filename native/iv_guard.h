// What stands between an HSM that makes IVs and an answer: an IV that cannot be fresh is never used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace xksd {

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
  struct Iv {
    uint64_t head;
    uint32_t tail;
    bool operator==(const Iv& other) const { return head == other.head && tail == other.tail; }
  };

  std::array<Iv, kRemembered> last_{};
  size_t count_ = 0;
  size_t next_ = 0;
};

}  // namespace xksd
