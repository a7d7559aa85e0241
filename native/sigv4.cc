#include "sigv4.h"

#include <string.h>

namespace xksd {
namespace {

void WriteHex(const uint8_t* bytes, uint8_t* characters) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < Sha256::kDigestBytes; ++i) {
    characters[2 * i] = static_cast<uint8_t>(kDigits[bytes[i] >> 4]);
    characters[2 * i + 1] = static_cast<uint8_t>(kDigits[bytes[i] & 0xf]);
  }
}

/** SHA-256(`pad` ‖ `head` ‖ `tail`), where the pad is made of a key. */
void HashBehindPad(const uint8_t* pad, Bytes head, Bytes tail, uint8_t* digest) {
  Sha256 sha;
  sha.Update(pad, Sha256::kBlockBytes);
  sha.Update(head.data, head.size);
  sha.Update(tail.data, tail.size);
  sha.Final(digest);
  explicit_bzero(&sha, sizeof sha);
}

}  // namespace

void HmacSha256(const uint8_t key[kSigningKeyBytes], Bytes head, Bytes tail, uint8_t* mac) {
  uint8_t pad[Sha256::kBlockBytes];
  const auto fill = [&](uint8_t value) {
    memset(pad, value, sizeof pad);
    for (size_t i = 0; i < kSigningKeyBytes; ++i) pad[i] ^= key[i];
  };
  uint8_t inner[Sha256::kDigestBytes];
  fill(0x36);
  HashBehindPad(pad, head, tail, inner);
  fill(0x5c);
  HashBehindPad(pad, {inner, sizeof inner}, {inner, 0}, mac);
  explicit_bzero(pad, sizeof pad);
  explicit_bzero(inner, sizeof inner);
}

bool SignatureMatches(const uint8_t signing_key[kSigningKeyBytes], Bytes to_sign_head, Bytes canonical_head, Bytes body,
                      const uint8_t* signature, uint8_t* hashed_request) {
  uint8_t digest[Sha256::kDigestBytes];
  uint8_t hex[kSignatureCharacters];
  Sha256 payload;
  payload.Update(body.data, body.size);
  payload.Final(digest);
  WriteHex(digest, hex);

  Sha256 request;
  request.Update(canonical_head.data, canonical_head.size);
  request.Update(hex, sizeof hex);
  request.Final(digest);
  WriteHex(digest, hashed_request);

  HmacSha256(signing_key, to_sign_head, {hashed_request, sizeof hex}, digest);
  WriteHex(digest, hex);
  uint8_t difference = 0;
  for (size_t i = 0; i < sizeof hex; ++i) difference |= static_cast<uint8_t>(hex[i] ^ signature[i]);
  // The right signature of a request that came with a wrong one is nobody's to read.
  explicit_bzero(digest, sizeof digest);
  explicit_bzero(hex, sizeof hex);
  __asm__ volatile("" : "+r"(difference));  // the compiler must not see that only zero or not counts
  return difference == 0;
}

}  // namespace xksd
