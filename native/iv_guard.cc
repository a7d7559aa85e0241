#include "iv_guard.h"

#include <string.h>

#include <algorithm>
#include <functional>
#include <string_view>

namespace xksd {

IvKey IvKeyOf(const uint8_t* object_id, size_t bytes) {
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(object_id), bytes});
}

Iv Iv::Of(IvKey key, const uint8_t* bytes) {
  Iv one{};
  one.key = key;
  memcpy(&one.head, bytes, sizeof one.head);
  memcpy(&one.tail, bytes + sizeof one.head, sizeof one.tail);
  return one;
}

bool IvRecord::Add(IvKey key, const uint8_t* iv) {
  const Iv one = Iv::Of(key, iv);
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

bool IvGuard::Admit(IvKey key, const uint8_t* iv, const uint8_t* input) {
  const Iv one = Iv::Of(key, iv);
  const auto end = last_.begin() + static_cast<std::ptrdiff_t>(count_);
  const bool is_fresh = !one.IsZero() && memcmp(iv, input, kIvBytes) != 0 && std::find(last_.begin(), end, one) == end;
  last_[next_] = one;
  next_ = (next_ + 1) % kRemembered;
  count_ = std::min(count_ + 1, kRemembered);
  return is_fresh;
}

}  // namespace xksd
