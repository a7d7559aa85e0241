#include "pkcs11_session.h"

#include <string.h>
#include <time.h>

#include <algorithm>

#include "sha256.h"

namespace xksd {
namespace {

uint64_t MonotonicMicros() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

/** Compares in time that depends on the length only. */
bool EqualInConstantTime(const uint8_t* left, const uint8_t* right, size_t bytes) {
  uint8_t difference = 0;
  for (size_t i = 0; i < bytes; ++i) difference |= static_cast<uint8_t>(left[i] ^ right[i]);
  __asm__ volatile("" : "+r"(difference));  // the compiler must not see that only zero or not counts
  return difference == 0;
}

std::string IdOf(const cell::KeyBlock& key) {
  return std::string(reinterpret_cast<const char*>(key.object_id), key.object_id_bytes);
}

std::string WitnessOf(const cell::KeyBlock& key) {
  if (key.witness_bytes == 0) return {};
  std::string witness(reinterpret_cast<const char*>(key.witness_iv), sizeof key.witness_iv);
  witness.append(reinterpret_cast<const char*>(key.witness_tag), sizeof key.witness_tag);
  witness.append(reinterpret_cast<const char*>(key.witness_ciphertext), key.witness_bytes);
  return witness;
}

}  // namespace

bool HandleCache::Find(const cell::KeyBlock& key, uint64_t epoch, CK_OBJECT_HANDLE* handle) {
  const std::lock_guard lock(mutex_);
  if (epoch_ != epoch) return false;
  const auto found = entries_.find(IdOf(key));
  if (found == entries_.end() || found->second.witness != WitnessOf(key)) return false;
  *handle = found->second.handle;
  return true;
}

void HandleCache::Insert(const cell::KeyBlock& key, uint64_t epoch, CK_OBJECT_HANDLE handle) {
  const std::lock_guard lock(mutex_);
  // A find that began under an older login must not survive into this one, nor throw away what this one knows.
  if (epoch < epoch_) return;
  if (epoch > epoch_) {
    entries_.clear();
    epoch_ = epoch;
  }
  if (entries_.size() >= kEntriesMax) entries_.erase(entries_.begin());
  entries_.insert_or_assign(IdOf(key), Entry{handle, WitnessOf(key)});
}

void HandleCache::Clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
}

CryptoSession::~CryptoSession() {
  Close();
  explicit_bzero(ivs_.data(), ivs_.size());
}

CryptoSession::Step CryptoSession::Called(Function function, CK_RV rv, Operation operation) {
  ++round_trips_;
  if (rv == CKR_OK) return {};
  const Step step{ClassifyRv(rv, operation), cell::kFailed, rv, function};
  if (!is_foreign_ && (IsDoubtful(step.rv_class) || SaysNothing(rv))) spurious_ = true;
  return step;
}

void CryptoSession::Close() {
  if (!open_) return;
  open_ = false;
  const InModule in_module(context_.calls.get());
  functions().C_CloseSession(session_);
}

Outcome CryptoSession::Open(uint32_t login_epoch) {
  const InModule in_module(context_.calls.get());
  const Step step = EnsureOpen(login_epoch);
  return step.ok() ? Outcome{} : Outcome{step.rv, true, step.function, {}};
}

CryptoSession::Step CryptoSession::EnsureOpen(uint32_t login_epoch) {
  const uint32_t initialisation = context_.module->initialisation();
  if (open_ && (login_epoch_ != login_epoch || initialisation_ != initialisation)) Close();
  if (open_) return {};
  ivs_left_ = 0;
  // A handle may be another object's by now.
  refused_under_ = kNoHandle;
  witness_refused_under_ = kNoHandle;
  login_epoch_ = login_epoch;
  initialisation_ = initialisation;
  const Step opened =
      Called(Function::kOpenSession,
             functions().C_OpenSession(context_.slot, CKF_SERIAL_SESSION, nullptr, nullptr, &session_));
  if (!opened.ok()) return opened;
  open_ = true;
  const Step login = CheckLogin();
  if (!login.ok()) Close();
  return login;
}

CryptoSession::Step CryptoSession::CheckLogin() {
  // A new session inherits the login of the application (PKCS#11 v2.40 §5.6). Without one, private keys are
  // invisible, and a find would report them lost.
  CK_SESSION_INFO session{};
  const Step asked = Called(Function::kGetSessionInfo, functions().C_GetSessionInfo(session_, &session));
  if (!asked.ok()) return asked;
  if (session.state == CKS_RO_USER_FUNCTIONS || session.state == CKS_RW_USER_FUNCTIONS) return {};
  CK_TOKEN_INFO token{};
  const Step described = Called(Function::kGetTokenInfo, functions().C_GetTokenInfo(context_.slot, &token));
  if (!described.ok()) return described;
  if ((token.flags & CKF_LOGIN_REQUIRED) == 0) return {};
  constexpr CK_RV kUserNotLoggedIn = 0x101;
  return Step{RvClass::kLoginLost, cell::kFailed, kUserNotLoggedIn, Function::kGetSessionInfo};
}

CryptoSession::Step CryptoSession::FindKey(const cell::KeyBlock& key, CK_OBJECT_HANDLE* handle) {
  // Both counters only grow, so the sum is new whenever one of them is.
  const uint64_t epoch = (uint64_t{login_epoch_} << 32) + initialisation_ + context_.module->renumberings();
  if (context_.handles.Find(key, epoch, handle)) return {};

  CK_ULONG object_class = CKO_SECRET_KEY;
  CK_ULONG key_type = CKK_AES;
  uint8_t id[cell::kObjectIdBytesMax];
  memcpy(id, key.object_id, sizeof id);
  CK_ATTRIBUTE attributes[] = {{CKA_CLASS, &object_class, sizeof object_class},
                               {CKA_KEY_TYPE, &key_type, sizeof key_type},
                               {CKA_ID, id, key.object_id_bytes}};
  const Step begun = Called(Function::kFindObjectsInit, functions().C_FindObjectsInit(session_, attributes, 3));
  if (!begun.ok()) return begun;
  CK_OBJECT_HANDLE found[2] = {};
  CK_ULONG count = 0;
  // One object may come per call; two at once or in turn are too many either way.
  Step asked;
  while (count < 2) {
    CK_ULONG more = 0;
    asked = Called(Function::kFindObjects, functions().C_FindObjects(session_, found + count, 2 - count, &more));
    if (!asked.ok() || more == 0) break;
    count += more;
  }
  const Step ended = Called(Function::kFindObjectsFinal, functions().C_FindObjectsFinal(session_));
  if (!asked.ok()) return asked;
  if (!ended.ok()) return ended;
  if (count != 1) {
    // "Not there" counts only while the login that makes it visible does.
    const Step login = CheckLogin();
    return login.ok() ? Final(cell::kKeyLost, CKR_OK, Function::kFindObjects) : login;
  }
  if (key.witness_bytes > 0) {
    const Step witnessed = CheckWitness(key, found[0]);
    if (!witnessed.ok()) return witnessed;
  }
  *handle = found[0];
  context_.handles.Insert(key, epoch, found[0]);
  return {};
}

CryptoSession::Step CryptoSession::DecryptWitness(const cell::KeyBlock& key, CK_OBJECT_HANDLE handle,
                                                  bool* matches) {
  *matches = false;
  ReserveScratch(key.witness_bytes);
  memcpy(sealed_.data(), key.witness_ciphertext, key.witness_bytes);
  memcpy(sealed_.data() + key.witness_bytes, key.witness_tag, cell::kTagBytes);
  const Step step = OpenForeign(&witness_refused_under_, handle, key.witness_iv, sizeof key.witness_iv,
                                context_.witness_aad.data(), context_.witness_aad.size(), key.witness_bytes);
  *matches = step.ok() && key.witness_bytes == context_.witness_plaintext.size() &&
             EqualInConstantTime(opened_.data(), context_.witness_plaintext.data(), key.witness_bytes);
  return step;
}

CryptoSession::Step CryptoSession::CheckWitness(const cell::KeyBlock& key, CK_OBJECT_HANDLE handle) {
  bool matches = false;
  const Step opened = DecryptWitness(key, handle, &matches);
  if (opened.ok()) return matches ? Step{} : Final(cell::kKeyLost, CKR_OK, Function::kDecrypt);
  if (opened.rv_class == RvClass::kBadCiphertext) return Final(cell::kKeyLost, opened.rv, opened.function);
  if (opened.rv_class != RvClass::kAmbiguous) return opened;
  // Another key, or an ill token? A token that can do a round trip with this object is well, so the object is not
  // the key.
  const Step sealed = GcmEncrypt(handle, context_.witness_aad.data(), context_.witness_aad.size(),
                                 context_.witness_plaintext.data(), context_.witness_plaintext.size());
  if (!sealed.ok()) return sealed;
  const Step again = GcmDecrypt(handle, sealed_iv_.data(), kIvBytes, context_.witness_aad.data(),
                                context_.witness_aad.size(), context_.witness_plaintext.size());
  if (again.ok()) return Final(cell::kKeyLost, opened.rv, opened.function);
  return Final(cell::kFailed, opened.rv, opened.function);
}

CryptoSession::Step CryptoSession::Encrypt(Request& request, CK_OBJECT_HANDLE handle) {
  cell::Header& header = request.header;
  const size_t bytes = header.data_bytes;
  Step verdict;
  // X-E4: a failed verification is retried from the encrypt, once.
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Step sealed = GcmEncrypt(handle, request.aad(), header.aad_bytes, request.data(), bytes);
    if (!sealed.ok()) return sealed;
    const uint8_t* iv = sealed_iv_.data();
    const uint8_t* tag = sealed_.data() + bytes;
    uint8_t integrity[cell::kIntegrityBytes] = {};
    if ((header.flags & cell::kFlagIntegrity) != 0) {
      // X-E4: taken before the verifying decrypt, so that it covers what was verified.
      Sha256 hash;
      hash.Update(request.prefix(), header.prefix_bytes);
      hash.Update(iv, kIvBytes);
      hash.Update(sealed_.data(), bytes + cell::kTagBytes);
      hash.Final(integrity);
    }
    if ((header.flags & cell::kFlagVerify) != 0) {
      verdict = GcmDecrypt(handle, iv, kIvBytes, request.aad(), header.aad_bytes, bytes);
      if (verdict.ok() && !EqualInConstantTime(opened_.data(), request.data(), bytes)) {
        verdict = Final(cell::kFailed, CKR_OK, Function::kDecrypt);
      }
    }
    if (verdict.ok()) {
      memcpy(header.iv, iv, kIvBytes);
      header.iv_bytes = kIvBytes;
      memcpy(header.tag, tag, cell::kTagBytes);
      memcpy(header.integrity, integrity, sizeof integrity);
      memcpy(request.data(), sealed_.data(), bytes);
      return {};
    }
    const bool verification_failed = verdict.rv_class == RvClass::kBadCiphertext ||
                                     verdict.rv_class == RvClass::kAmbiguous ||
                                     verdict.rv_class == RvClass::kFailed;
    if (!verification_failed) return verdict;
  }
  return Final(cell::kFailed, verdict.rv, verdict.function);
}

CryptoSession::Step CryptoSession::RunCanary(const Request& request, CK_OBJECT_HANDLE handle, Canary* canary) {
  *canary = Canary::kNone;
  const bool own = request.header.key.witness_bytes > 0;
  const cell::KeyBlock* key = own ? &request.header.key : &request.header.canary;
  CK_OBJECT_HANDLE canary_handle = handle;
  if (!own) {
    if (key->object_id_bytes == 0 || key->witness_bytes == 0) return {};
    const Step found = FindKey(*key, &canary_handle);
    if (!found.ok()) {
      *canary = Canary::kBad;
      // That the canary key is lost says nothing about the caller's.
      return found.result == cell::kKeyLost ? Final(cell::kFailed, found.rv, found.function) : found;
    }
  }
  bool matches = false;
  const Step opened = DecryptWitness(*key, canary_handle, &matches);
  if (matches) {
    *canary = Canary::kGood;
    return {};
  }
  *canary = Canary::kBad;
  if (opened.ok() || opened.rv_class == RvClass::kBadCiphertext) {
    // A well token and another key under this handle.
    return Step{RvClass::kHandleStale, own ? cell::kKeyLost : cell::kFailed, opened.rv, Function::kDecrypt};
  }
  return opened;
}

CryptoSession::Step CryptoSession::RepeatRefusal(Request& request, CK_OBJECT_HANDLE handle, const Step& first) {
  cell::Header& header = request.header;
  const auto wanted_of = [&](uint32_t shift) { return (header.flags >> shift) & cell::kRefusalsMask; };
  // The word of one that has just failed over this very operation is worth no more than a code that may mean anything.
  const bool own_word =
      first.rv_class == RvClass::kBadCiphertext && !has_failed_ && wanted_of(cell::kRefusalsOwnWordShift) > 0;
  // What may mean anything is never believed at once.
  const uint32_t least = own_word ? wanted_of(cell::kRefusalsOwnWordShift)
                                  : std::max(2U, wanted_of(cell::kRefusalsLeastShift));
  const uint32_t wanted = own_word ? least : std::max(least, wanted_of(cell::kRefusalsWantedShift));
  // C_DecryptInit sees neither ciphertext nor tag: a code that says nothing is the token's there, unless it be the length
  // of the IV, which is not that of the witness.
  const auto may_be_bad_tag = [&](const Step& refusal) {
    return MayBeBadTag(refusal.rv, bad_tag_codes_) &&
           (refusal.function == Function::kDecrypt || !SaysNothing(refusal.rv) || header.iv_bytes != kIvBytes);
  };
  bool may_be = may_be_bad_tag(first);
  Step step = first;
  // The request has waited for this lane, so it is not the time that the operation took which counts.
  const auto is_too_late = [&](uint64_t micros) {
    return static_cast<int32_t>(header.ask_until_micros - static_cast<uint32_t>(micros)) < 0;
  };
  for (uint64_t now = MonotonicMicros(), before = now; header.refusals < wanted; before = now) {
    step = OpenSealed(request, handle);
    if (!IsDoubtful(step.rv_class)) return step;
    ++header.refusals;
    may_be = may_be && may_be_bad_tag(step);
    now = MonotonicMicros();
    // Another one would come too late.
    if (header.refusals >= 2 && is_too_late(now + (now - before))) break;
  }
  doubted_ = may_be && header.refusals < least;
  return Final(may_be && !doubted_ ? cell::kBadCiphertext : cell::kFailed, first.rv, first.function);
}

CryptoSession::Step CryptoSession::Decrypt(Request& request, CK_OBJECT_HANDLE handle) {
  cell::Header& header = request.header;
  header.refusals = 0;
  Step step = OpenSealed(request, handle);
  if (IsDoubtful(step.rv_class)) {
    header.refusals = 1;
    Canary canary = Canary::kNone;
    const Step checked = RunCanary(request, handle, &canary);
    // X-X2: only a token that is well at this moment, with the right key under this handle, may call a ciphertext
    // bad; an ambiguous code needs the canary, and more than one opinion.
    if (canary == Canary::kBad) {
      // The witness does not open: an ill token, or another key under this handle. The retry finds the key anew, and
      // CheckWitness tells which; until then nothing may be encrypted under this handle.
      return IsDoubtful(checked.rv_class)
                 ? Step{RvClass::kHandleStale, cell::kFailed, checked.rv, checked.function}
                 : checked;
    }
    if (step.rv_class == RvClass::kAmbiguous && canary == Canary::kNone) {
      return Final(cell::kFailed, step.rv, step.function);
    }
    step = RepeatRefusal(request, handle, step);
  }
  if (step.ok()) memcpy(request.data(), opened_.data(), header.data_bytes);
  return step;
}

CryptoSession::Step CryptoSession::Attempt(Request& request, uint32_t login_epoch) {
  const Step opened = EnsureOpen(login_epoch);
  if (!opened.ok()) return opened;
  if (request.header.operation == cell::kOperationProbe) return CheckLogin();
  CK_OBJECT_HANDLE handle = 0;
  const Step found = FindKey(request.header.key, &handle);
  if (!found.ok()) return found;
  if ((request.header.flags & cell::kFlagTrial) != 0) return Try(request, handle);
  return request.header.operation == cell::kOperationEncrypt ? Encrypt(request, handle) : Decrypt(request, handle);
}

void CryptoSession::Execute(Request& request, uint32_t login_epoch) {
  const InModule in_module(context_.calls.get());
  begun_micros_ = MonotonicMicros();
  round_trips_ = 0;
  spurious_ = false;
  doubted_ = false;
  has_failed_ = false;
  refused_under_ = kNoHandle;
  witness_refused_under_ = kNoHandle;
  encryptions_ = 0;
  form_ = GcmForm::FromFlags(request.header.flags);
  bad_tag_codes_ = BadTagCodes::FromFlags(request.header.flags);
  iv_key_ = IvKeyOf(request.header.key.object_id, request.header.key.object_id_bytes);
  Step step = Attempt(request, login_epoch);
  for (int retries = 1; retries > 0; --retries) {
    if (step.rv_class == RvClass::kHandleStale) {
      // Where one handle is another key's, so may be all; other workers of this process have them in caches too.
      context_.module.CountRenumbering();
    } else if (step.rv_class == RvClass::kSessionLost || step.rv_class == RvClass::kDevice) {
      // Sessions don't end alone: what was found in them may be numbered otherwise by now.
      Close();
      context_.handles.Clear();
    } else {
      break;
    }
    if (context_.calls != nullptr) context_.calls->CountRepeat();
    has_failed_ = true;
    step = Attempt(request, login_epoch);
  }

  cell::Header& header = request.header;
  header.rv = static_cast<uint32_t>(step.rv);
  header.function = static_cast<uint32_t>(step.function);
  header.login_lost = 0;
  switch (step.rv_class) {
    case RvClass::kOk:
    case RvClass::kFailed:
      header.result = step.result;
      break;
    case RvClass::kLoginLost:
      header.result = cell::kTokenUnavailable;
      header.login_lost = 1;
      Close();
      context_.handles.Clear();
      break;
    case RvClass::kHandleStale:
      context_.module.CountRenumbering();
      header.result = step.result == cell::kKeyLost ? cell::kKeyLost : cell::kTokenUnavailable;
      break;
    case RvClass::kSessionLost:
    case RvClass::kDevice:
      header.result = cell::kTokenUnavailable;
      Close();
      break;
    // Outside a decrypt nothing is about a ciphertext.
    case RvClass::kBadCiphertext:
    case RvClass::kAmbiguous:
      header.result = cell::kFailed;
      break;
  }
  // A module that failed in its own words may have left the operation active: begin anew.
  if (header.result == cell::kFailed) Close();
  if (header.result != cell::kOk && header.data_bytes > 0) explicit_bzero(request.data(), header.data_bytes);
  if (!opened_.empty()) explicit_bzero(opened_.data(), opened_.size());
  header.round_trips = round_trips_;
  header.encryptions = encryptions_;
  // What a probe asks for is meant to be refused.
  if (spurious_ && (header.flags & cell::kFlagTrial) == 0) header.refusals |= cell::kSpurious;
  if (doubted_) header.refusals |= cell::kDoubted;
  header.micros = static_cast<uint32_t>(std::min<uint64_t>(MonotonicMicros() - begun_micros_, UINT32_MAX));
}

}  // namespace xksd
