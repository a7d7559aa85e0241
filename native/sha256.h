// SHA-256 (FIPS 180-4) for ciphertextDataIntegrityValue and SigV4. Our own: Node exports OpenSSL's, but a Node linked
// against a shared OpenSSL doesn't, its headers need not lie beside it, and the sanitizer builds run without Node. A hash
// is 100 lines with the standard's vectors to test it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xksd {

/** Takes `blocks` of 64 bytes each into the state (FIPS 180-4 §6.2.2). */
using Sha256Compress = void (*)(uint32_t state[8], const uint8_t* data, size_t blocks);

/** For any processor. */
void CompressPortably(uint32_t state[8], const uint8_t* data, size_t blocks);
/** By the processor's own instructions for SHA-256; `nullptr` where it has none that we know. */
Sha256Compress CompressByInstructions();
/** The faster of the two here. */
Sha256Compress FastestCompress();

class Sha256 {
 public:
  static constexpr size_t kBlockBytes = 64;
  static constexpr size_t kDigestBytes = 32;

  explicit Sha256(Sha256Compress compress = FastestCompress());
  void Update(const uint8_t* data, size_t bytes);
  /** Writes 32 bytes. The object is used up. */
  void Final(uint8_t* digest);

 private:
  Sha256Compress compress_;
  uint32_t state_[8];
  uint64_t total_bytes_ = 0;
  uint8_t block_[kBlockBytes];
  size_t block_bytes_ = 0;
};

}  // namespace xksd
