// The AES-GCM calls of a session, in the form that its token wants, and the IVs of encryptions.
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "pkcs11_session.h"

namespace xksd {
namespace {

bool SystemRandom(uint8_t* out, size_t bytes) {
  while (bytes > 0) {
    const ssize_t got = getrandom(out, bytes, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    out += got;
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

CryptoSession::Step CryptoSession::NextIv(uint8_t* iv) {
  if (ivs_left_ == 0) {
    const Step step =
        Called(Function::kGenerateRandom, functions().C_GenerateRandom(session_, ivs_.data(), ivs_.size()));
    if (!step.ok()) return step;
    // hsm.md, _Nonces_: XOR, so that neither source alone can repeat one.
    std::array<uint8_t, kIvsPrefetched * kIvBytes> system;
    if (!SystemRandom(system.data(), system.size())) return Final(cell::kFailed, CKR_OK, Function::kGetrandom);
    for (size_t i = 0; i < ivs_.size(); ++i) ivs_[i] ^= system[i];
    explicit_bzero(system.data(), system.size());
    ivs_left_ = kIvsPrefetched;
  }
  // Counted down before use: whatever fails after this, no IV is taken twice.
  --ivs_left_;
  uint8_t* taken = ivs_.data() + ivs_left_ * kIvBytes;
  memcpy(iv, taken, kIvBytes);
  explicit_bzero(taken, kIvBytes);
  return {};
}

void CryptoSession::ReserveScratch(size_t bytes) {
  // Wiped before it grows: a vector frees its old memory as it is.
  const size_t needed = bytes + 2 * cell::kTagBytes;
  if (sealed_.size() < needed) {
    WipeScratch();
    sealed_.resize(needed);
    opened_.resize(needed);
  }
}

void CryptoSession::WipeScratch() {
  if (!opened_.empty()) explicit_bzero(opened_.data(), opened_.size());
}

/** Leaves ciphertext ‖ tag in `sealed_`, and the IV that they are under in `sealed_iv_`. */
CryptoSession::Step CryptoSession::GcmEncrypt(CK_OBJECT_HANDLE handle, const uint8_t* aad, size_t aad_bytes,
                                              const uint8_t* plaintext, size_t bytes) {
  constexpr std::array<uint8_t, kIvBytes> kZero{};
  const bool is_callers = form_.iv_source == IvSource::kCaller;
  ReserveScratch(bytes);
  if (is_callers) {
    const Step random = NextIv(sealed_iv_.data());
    if (!random.ok()) return random;
  }
  CK_MECHANISM* const mechanism = is_callers
                                      ? gcm_.WithIv(form_.layout, sealed_iv_.data(), kIvBytes, aad, aad_bytes)
                                      : gcm_.WithoutIv(form_, aad, aad_bytes);
  const Step begun = Called(Function::kEncryptInit, functions().C_EncryptInit(session_, mechanism, handle));
  if (!begun.ok()) return begun;
  CK_ULONG sealed_bytes = sealed_.size();
  // Before the call: should it never return, or fail, the IV may be used up all the same.
  ++encryptions_;
  const Step sealed = Called(Function::kEncrypt, functions().C_Encrypt(session_, const_cast<CK_BYTE*>(plaintext),
                                                                       bytes, sealed_.data(), &sealed_bytes));
  if (!sealed.ok()) return sealed;
  const size_t appended = form_.iv_source == IvSource::kAppended ? kIvBytes : 0;
  if (sealed_bytes != bytes + cell::kTagBytes + appended) return Final(cell::kFailed, CKR_OK, Function::kEncrypt);
  if (is_callers) {
    // Another IV in the place of ours: this HSM makes its own, and nobody knows which one it used.
    return memcmp(gcm_.iv(), sealed_iv_.data(), kIvBytes) == 0 ? Step{}
                                                               : Final(cell::kUnsafeIv, CKR_OK, Function::kEncrypt);
  }
  memcpy(sealed_iv_.data(), appended > 0 ? sealed_.data() + bytes + cell::kTagBytes : gcm_.iv(), kIvBytes);
  const bool is_fresh_here = iv_guard_.Admit(iv_key_, sealed_iv_.data(), kZero.data());
  const bool is_fresh = context_.module->iv_record(context_.slot).Add(iv_key_, sealed_iv_.data()) && is_fresh_here;
  return is_fresh ? Step{} : Final(cell::kUnsafeIv, CKR_OK, Function::kEncrypt);
}

/** Opens the ciphertext ‖ tag in `sealed_`; leaves the plaintext in `opened_`. */
CryptoSession::Step CryptoSession::GcmDecrypt(CK_OBJECT_HANDLE handle, const uint8_t* iv, size_t iv_bytes,
                                              const uint8_t* aad, size_t aad_bytes, size_t bytes) {
  CK_MECHANISM* const mechanism = gcm_.WithIv(form_.layout, iv, iv_bytes, aad, aad_bytes);
  const Step begun = Called(Function::kDecryptInit, functions().C_DecryptInit(session_, mechanism, handle),
                            Operation::kDecrypt);
  if (!begun.ok()) return begun;
  CK_ULONG opened_bytes = opened_.size();
  const Step opened = Called(
      Function::kDecrypt,
      functions().C_Decrypt(session_, sealed_.data(), bytes + cell::kTagBytes, opened_.data(), &opened_bytes),
      Operation::kDecrypt);
  if (!opened.ok()) return opened;
  if (opened_bytes != bytes) return Final(cell::kFailed, CKR_OK, Function::kDecrypt);
  return {};
}

/** GcmDecrypt of what the token may refuse rightly: it may be bad, or of another key than the one behind the handle. */
CryptoSession::Step CryptoSession::OpenForeign(CK_OBJECT_HANDLE* refused_under, CK_OBJECT_HANDLE handle, const uint8_t* iv,
                                               size_t iv_bytes, const uint8_t* aad, size_t aad_bytes, size_t bytes) {
  is_foreign_ = true;
  const Step step = GcmDecrypt(handle, iv, iv_bytes, aad, aad_bytes, bytes);
  is_foreign_ = false;
  if (IsDoubtful(step.rv_class)) {
    *refused_under = handle;
  } else if (step.ok() && *refused_under == handle) {
    spurious_ = true;
  }
  return step;
}

/** Decrypts the ciphertext and tag of a request. */
CryptoSession::Step CryptoSession::OpenSealed(Request& request, CK_OBJECT_HANDLE handle) {
  const cell::Header& header = request.header;
  ReserveScratch(header.data_bytes);
  memcpy(sealed_.data(), request.data(), header.data_bytes);
  memcpy(sealed_.data() + header.data_bytes, header.tag, cell::kTagBytes);
  return OpenForeign(&refused_under_, handle, header.iv, header.iv_bytes, request.aad(), header.aad_bytes,
                     header.data_bytes);
}

/** What the token makes of one operation, as it says it: nothing is verified, asked twice or interpreted. */
CryptoSession::Step CryptoSession::Try(Request& request, CK_OBJECT_HANDLE handle) {
  cell::Header& header = request.header;
  const size_t bytes = header.data_bytes;
  if (header.operation == cell::kOperationDecrypt) {
    const Step opened = OpenSealed(request, handle);
    if (opened.ok()) memcpy(request.data(), opened_.data(), bytes);
    return opened;
  }
  const Step sealed = GcmEncrypt(handle, request.aad(), header.aad_bytes, request.data(), bytes);
  if (!sealed.ok()) return sealed;
  memcpy(header.iv, sealed_iv_.data(), kIvBytes);
  header.iv_bytes = kIvBytes;
  memcpy(header.tag, sealed_.data() + bytes, cell::kTagBytes);
  memcpy(request.data(), sealed_.data(), bytes);
  return {};
}

}  // namespace xksd
