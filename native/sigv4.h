// The hashing that the verification of one SigV4 signature takes, free of Node.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sha256.h"

namespace xksd {

/** Bytes that somebody else owns. */
struct Bytes {
  const uint8_t* data;
  size_t size;
};

constexpr size_t kSigningKeyBytes = 32;
/** Lower-case hexadecimal. */
constexpr size_t kSignatureCharacters = 2 * Sha256::kDigestBytes;

/** HMAC-SHA-256 (RFC 2104) of `head ‖ tail` into `mac` (32 bytes). Leaves nothing of the key behind. */
void HmacSha256(const uint8_t key[kSigningKeyBytes], Bytes head, Bytes tail, uint8_t* mac);

/**
 * Whether `signature` (64 characters) is that of a request under a signing key: HMAC-SHA-256 of `to_sign_head ‖ hex(h)`
 * with h = SHA-256(`canonical_head ‖ hex(SHA-256(body))`). Compares in constant time. Writes hex(h) (64 characters) to
 * `hashed_request` in either case.
 */
bool SignatureMatches(const uint8_t signing_key[kSigningKeyBytes], Bytes to_sign_head, Bytes canonical_head, Bytes body,
                      const uint8_t* signature, uint8_t* hashed_request);

}  // namespace xksd
