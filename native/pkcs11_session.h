// One PKCS#11 session and what it does with an operation: find the key, encrypt, integrity value, verifying decrypt,
// decrypt with its canary. Used by one thread at a time. Touches only memory of its own: a call that never returns
// holds no pointer into a cell.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "crypto_cell.h"
#include "gcm_parameters.h"
#include "iv_guard.h"
#include "pkcs11.h"
#include "pkcs11_module.h"
#include "rv_class.h"

namespace xksd {

/** An operation copied out of its cell: header, then aad ‖ prefix ‖ data. */
struct Request {
  cell::Header header;
  std::vector<uint8_t> variable;

  const uint8_t* aad() const { return variable.data(); }
  const uint8_t* prefix() const { return aad() + header.aad_bytes; }
  /** Replaced by the result. */
  uint8_t* data() { return variable.data() + header.aad_bytes + header.prefix_bytes; }
};

/** Key handles by CKA_ID, shared by the sessions of one worker. Good for one login of one
 * module initialisation, as long as no handle turned out to be stale. */
class HandleCache {
 public:
  /** @returns false unless this key, with this witness, was found under this epoch. */
  bool Find(const cell::KeyBlock& key, uint64_t epoch, CK_OBJECT_HANDLE* handle);
  void Insert(const cell::KeyBlock& key, uint64_t epoch, CK_OBJECT_HANDLE handle);
  void Clear();

 private:
  static constexpr size_t kEntriesMax = 8192;
  struct Entry {
    CK_OBJECT_HANDLE handle;
    std::string witness;
  };
  std::mutex mutex_;
  uint64_t epoch_ = 0;
  std::unordered_map<std::string, Entry> entries_;
};

/** What the sessions of a worker have in common. */
struct TokenContext {
  ModuleRef module;
  CK_SLOT_ID slot = 0;
  std::vector<uint8_t> witness_plaintext;
  std::vector<uint8_t> witness_aad;
  HandleCache handles;
  /** Of the token's calls; may be null. */
  std::shared_ptr<CallCounts> calls;
};

class CryptoSession {
 public:
  explicit CryptoSession(TokenContext& context) : context_(context) {}
  ~CryptoSession();
  CryptoSession(const CryptoSession&) = delete;
  CryptoSession& operator=(const CryptoSession&) = delete;

  /** Opens the session now, to know whether it can be. */
  Outcome Open(uint32_t login_epoch);
  /** Carries out `request`: fills its result fields, and data, iv, tag and integrity where there are any. */
  void Execute(Request& request, uint32_t login_epoch);
  void Close();

 private:
  static constexpr size_t kIvBytes = GcmParameters::kIvBytes;
  static_assert(kIvBytes == IvGuard::kIvBytes);
  /** Random IVs fetched from the token at once: one round trip for all of them. */
  static constexpr size_t kIvsPrefetched = 64;
  /** PKCS#11 v2.40 §3.6, CK_INVALID_HANDLE. */
  static constexpr CK_OBJECT_HANDLE kNoHandle = 0;

  /** How one attempt ended. `result` counts for RvClass::kOk and kFailed. */
  struct Step {
    RvClass rv_class = RvClass::kOk;
    cell::Result result = cell::kOk;
    CK_RV rv = CKR_OK;
    Function function = Function::kNone;

    bool ok() const { return rv_class == RvClass::kOk && result == cell::kOk; }
  };
  enum class Canary { kGood, kBad, kNone };

  Step Attempt(Request& request, uint32_t login_epoch);
  Step EnsureOpen(uint32_t login_epoch);
  Step CheckLogin();
  Step FindKey(const cell::KeyBlock& key, CK_OBJECT_HANDLE* handle);
  Step CheckWitness(const cell::KeyBlock& key, CK_OBJECT_HANDLE handle);
  /** Decrypts a witness. `*matches`: it gave the constant. */
  Step DecryptWitness(const cell::KeyBlock& key, CK_OBJECT_HANDLE handle, bool* matches);
  Step Encrypt(Request& request, CK_OBJECT_HANDLE handle);
  Step Decrypt(Request& request, CK_OBJECT_HANDLE handle);
  /** Asks again until the token has refused the ciphertext as often as is wanted, or does not. */
  Step RepeatRefusal(Request& request, CK_OBJECT_HANDLE handle, const Step& first);
  /** Decides whether the token is well enough for its verdict on a ciphertext to count (X-X2). */
  Step RunCanary(const Request& request, CK_OBJECT_HANDLE handle, Canary* canary);
  Step NextIv(uint8_t* iv);
  Step GcmEncrypt(CK_OBJECT_HANDLE handle, const uint8_t* aad, size_t aad_bytes, const uint8_t* plaintext,
                  size_t bytes);
  Step GcmDecrypt(CK_OBJECT_HANDLE handle, const uint8_t* iv, size_t iv_bytes, const uint8_t* aad, size_t aad_bytes,
                  size_t bytes);
  /** `refused_under`: the handle under which the same was refused before, or kNoHandle. */
  Step OpenForeign(CK_OBJECT_HANDLE* refused_under, CK_OBJECT_HANDLE handle, const uint8_t* iv, size_t iv_bytes,
                   const uint8_t* aad, size_t aad_bytes, size_t bytes);
  Step OpenSealed(Request& request, CK_OBJECT_HANDLE handle);
  Step Try(Request& request, CK_OBJECT_HANDLE handle);
  void ReserveScratch(size_t bytes);
  void WipeScratch();
  Step Called(Function function, CK_RV rv, Operation operation = Operation::kEncrypt);
  static Step Final(cell::Result result, CK_RV rv, Function function) {
    return Step{RvClass::kFailed, result, rv, function};
  }
  const CK_FUNCTION_LIST& functions() const { return context_.module->functions(); }

  TokenContext& context_;
  CK_SESSION_HANDLE session_ = 0;
  bool open_ = false;
  uint32_t login_epoch_ = 0;
  uint32_t initialisation_ = 0;

  // Of the operation in hand, from here.
  uint32_t round_trips_ = 0;
  uint64_t begun_micros_ = 0;
  /** The calls are about a ciphertext that this token need not have made, or not under this key. */
  bool is_foreign_ = false;
  /** cell::kSpurious, as far as it is known. */
  bool spurious_ = false;
  /** cell::kDoubted. */
  bool doubted_ = false;
  /** An attempt before this one ended in something else than a verdict. */
  bool has_failed_ = false;
  /** In this session: under which handle the caller's ciphertext was refused, and under which a witness. */
  CK_OBJECT_HANDLE refused_under_ = kNoHandle;
  CK_OBJECT_HANDLE witness_refused_under_ = kNoHandle;
  /** C_Encrypt calls begun. */
  uint32_t encryptions_ = 0;
  GcmForm form_;
  BadTagCodes bad_tag_codes_;
  IvKey iv_key_ = 0;

  std::array<uint8_t, kIvsPrefetched * kIvBytes> ivs_{};
  size_t ivs_left_ = 0;

  GcmParameters gcm_;
  std::array<uint8_t, kIvBytes> sealed_iv_{};
  /** Of this session and those before it on the same lane. */
  IvGuard iv_guard_;

  /** ciphertext ‖ tag, with room for an IV after it, and the plaintext that came back (with room for a tag: SoftHSM
   * wants it). */
  std::vector<uint8_t> sealed_;
  std::vector<uint8_t> opened_;
};

}  // namespace xksd
