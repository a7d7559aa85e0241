#include "iv_guard.h"

#include <string.h>

#include <algorithm>

namespace xksd {

Iv Iv::Of(const uint8_t* bytes) {
  Iv one{};
  memcpy(&one.head, bytes, sizeof one.head);
  memcpy(&one.tail, bytes + sizeof one.head, sizeof one.tail);
  return one;
}

bool IvRecord::Add(const uint8_t* iv) {
  const Iv one = Iv::Of(iv);
  const std::lock_guard lock(mutex_);
  if (!known_.insert(one).second) return false;
  if (order_.size() < kRemembered) {
    order_.push_back(one);
    return true;
  }
  known_.erase(order_[next_]);
  order_[next_] = one;
  next_ = (next_ + 1) % kRemembered;
  return true;
}

bool IvGuard::Admit(const uint8_t* iv, const uint8_t* input) {
  const Iv one = Iv::Of(iv);
  const auto end = last_.begin() + static_cast<std::ptrdiff_t>(count_);
  const bool is_fresh = !(one == Iv{}) && memcmp(iv, input, kIvBytes) != 0 && std::find(last_.begin(), end, one) == end;
  last_[next_] = one;
  next_ = (next_ + 1) % kRemembered;
  count_ = std::min(count_ + 1, kRemembered);
  return is_fresh;
}

}  // namespace xksd
