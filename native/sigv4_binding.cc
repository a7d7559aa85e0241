// SigV4 for the request path: one call per request, so it speaks Node-API itself, without wrappers and exceptions.
#include <memory>
#include <new>

#include "addon.h"
#include "sigv4.h"

namespace xksd {
namespace {

/** What the strings of a request as KMS signs it fit into; longer ones go to the heap. */
constexpr size_t kUsualCharacters = 2048;

/** A string argument, one byte per character. */
class Latin1 {
 public:
  /** False when it is no string, or there is no memory for it. */
  bool Read(napi_env env, napi_value value) {
    size_t characters = 0;
    // Reads until the room is full, with a NUL in it: one less than the room means that all may not have fitted.
    if (napi_get_value_string_latin1(env, value, usual_, sizeof usual_, &characters) != napi_ok) return false;
    bytes_ = {reinterpret_cast<const uint8_t*>(usual_), characters};
    if (characters < sizeof usual_ - 1) return true;
    if (napi_get_value_string_latin1(env, value, nullptr, 0, &characters) != napi_ok) return false;
    long_.reset(new (std::nothrow) char[characters + 1]);
    if (long_ == nullptr) return false;
    if (napi_get_value_string_latin1(env, value, long_.get(), characters + 1, &characters) != napi_ok) return false;
    bytes_ = {reinterpret_cast<const uint8_t*>(long_.get()), characters};
    return true;
  }
  Bytes bytes() const { return bytes_; }

 private:
  char usual_[kUsualCharacters];
  std::unique_ptr<char[]> long_;
  Bytes bytes_{nullptr, 0};
};

/** A Uint8Array argument; `size`: its bytes, when only so many will do. */
bool ReadBytes(napi_env env, napi_value value, uint8_t** data, size_t* size) {
  napi_typedarray_type type;
  void* start = nullptr;
  if (napi_get_typedarray_info(env, value, &type, size, &start, nullptr, nullptr) != napi_ok) return false;
  *data = static_cast<uint8_t*>(start);
  return type == napi_uint8_array;
}

napi_value CheckSignature(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  size_t count = 5;
  Latin1 to_sign_head, canonical_head;
  uint8_t *signing_key, *body;
  size_t signing_key_bytes, body_bytes, signature_characters;
  char signature[kSignatureCharacters + 1];
  const bool understood =
      napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) == napi_ok && count == 5 &&
      ReadBytes(env, arguments[0], &signing_key, &signing_key_bytes) && signing_key_bytes == kSigningKeyBytes &&
      to_sign_head.Read(env, arguments[1]) && canonical_head.Read(env, arguments[2]) &&
      ReadBytes(env, arguments[3], &body, &body_bytes) &&
      napi_get_value_string_latin1(env, arguments[4], nullptr, 0, &signature_characters) == napi_ok &&
      signature_characters == kSignatureCharacters &&
      napi_get_value_string_latin1(env, arguments[4], signature, sizeof signature, nullptr) == napi_ok;
  if (!understood) {
    napi_throw_type_error(env, nullptr, "checkSigV4Signature: an argument is missing, or of a wrong type or length");
    return nullptr;
  }
  uint8_t hashed_request[2 * Sha256::kDigestBytes];
  const bool matches = SignatureMatches(signing_key, to_sign_head.bytes(), canonical_head.bytes(), {body, body_bytes},
                                        reinterpret_cast<const uint8_t*>(signature), hashed_request);
  napi_value result = nullptr;
  if (matches) {
    napi_get_null(env, &result);
  } else {
    napi_create_string_latin1(env, reinterpret_cast<const char*>(hashed_request), sizeof hashed_request, &result);
  }
  return result;
}

}  // namespace

void DefineSigV4Functions(Napi::Env env, Napi::Object exports) {
  napi_value function = nullptr;
  constexpr char name[] = "checkSigV4Signature";
  NAPI_THROW_IF_FAILED_VOID(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, CheckSignature, nullptr, &function));
  exports.Set(name, function);
}

}  // namespace xksd
