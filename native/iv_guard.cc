#include "iv_guard.h"

#include <string.h>

#include <algorithm>

namespace xksd {

bool IvGuard::Admit(const uint8_t* iv, const uint8_t* input) {
  Iv one{};
  memcpy(&one.head, iv, sizeof one.head);
  memcpy(&one.tail, iv + sizeof one.head, sizeof one.tail);
  const auto end = last_.begin() + static_cast<std::ptrdiff_t>(count_);
  const bool is_fresh = !(one == Iv{}) && memcmp(iv, input, kIvBytes) != 0 && std::find(last_.begin(), end, one) == end;
  last_[next_] = one;
  next_ = (next_ + 1) % kRemembered;
  count_ = std::min(count_ + 1, kRemembered);
  return is_fresh;
}

}  // namespace xksd
