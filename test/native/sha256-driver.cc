// Prints SHA-256 of the first 0, 1, … 300 bytes of a pattern, by each implementation that this processor can run and in
// pieces of several sizes: one line `implementation piece length digest` each. The test compares them with node:crypto.
#include <cstdio>
#include <string>

#include "../../native/sha256.cc"

namespace {

constexpr size_t kLengthMax = 300;

void Print(const char* name, xksd::Sha256Compress compress) {
  uint8_t pattern[kLengthMax];
  for (size_t i = 0; i < kLengthMax; ++i) pattern[i] = static_cast<uint8_t>(i * 7 + 1);
  for (const size_t piece : {size_t{1}, size_t{63}, size_t{64}, size_t{65}, kLengthMax}) {
    for (size_t length = 0; length <= kLengthMax; ++length) {
      xksd::Sha256 sha(compress);
      for (size_t at = 0; at < length; at += piece) sha.Update(pattern + at, std::min(piece, length - at));
      uint8_t digest[xksd::Sha256::kDigestBytes];
      sha.Final(digest);
      printf("%s %zu %zu ", name, piece, length);
      for (const uint8_t byte : digest) printf("%02x", byte);
      printf("\n");
    }
  }
}

}  // namespace

int main() {
  Print("portable", xksd::CompressPortably);
  if (xksd::CompressByInstructions() != nullptr) Print("instructions", xksd::CompressByInstructions());
  return 0;
}
