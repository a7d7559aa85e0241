// SHA-256 (FIPS 180-4) for ciphertextDataIntegrityValue. Our own: Node exports OpenSSL's, but a Node linked against a
// shared OpenSSL doesn't, its headers need not lie beside it, and the sanitizer builds run without Node. A hash is
// 100 lines with the standard's vectors to test it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xksd {

class Sha256 {
 public:
  static constexpr size_t kDigestBytes = 32;

  Sha256();
  void Update(const uint8_t* data, size_t bytes);
  /** Writes 32 bytes. The object is used up. */
  void Final(uint8_t* digest);

 private:
  void Compress(const uint8_t* block);

  uint32_t state_[8];
  uint64_t total_bytes_ = 0;
  uint8_t block_[64];
  size_t block_bytes_ = 0;
};

}  // namespace xksd
