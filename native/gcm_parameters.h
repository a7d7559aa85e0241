// How a token takes and gives the IV of an AES-GCM operation, and the parameters of CKM_AES_GCM in that form.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "crypto_cell.h"
#include "pkcs11.h"

namespace xksd {

/** Who makes the IV of an encryption. Values as src/hsm/profile/gcm-form.ts has them. */
enum class IvSource : uint8_t {
  /** We do: C_GenerateRandom XOR the system's random. */
  kCaller = 0,
  /** The HSM, which puts it after the tag; ulIvLen is 0 and ulIvBits 96 (Thales Luna in FIPS mode). */
  kAppended = 1,
  /** The HSM, which writes it over 12 zero bytes at pIv, in C_EncryptInit or C_Encrypt (AWS CloudHSM, nShield). */
  kInPlace = 2,
};

/** Whether CK_GCM_PARAMS has ulIvBits: the header files of PKCS#11 v2.40 have it, the text of v2.40 has not. */
enum class GcmLayout : uint8_t { kWithIvBits = 0, kWithoutIvBits = 1 };

struct GcmForm {
  IvSource iv_source = IvSource::kCaller;
  GcmLayout layout = GcmLayout::kWithIvBits;

  /** From `cell::Header::flags`. An unknown source is the caller's: an HSM that wants another refuses it. */
  static GcmForm FromFlags(uint32_t flags);
};

/** The parameters of one operation. PKCS#11 v3.0 §5.1: they must outlive the call that takes them, as some modules read
 * them again later, and some write to them. */
class GcmParameters {
 public:
  static constexpr size_t kIvBytes = 12;

  /** For an IV that the caller gives: any decrypt, and an encrypt under an IV of our own. */
  CK_MECHANISM* WithIv(GcmLayout layout, const uint8_t* iv, size_t iv_bytes, const uint8_t* aad, size_t aad_bytes);
  /** For an IV that the HSM makes: 12 zero bytes at `iv()`. */
  CK_MECHANISM* WithoutIv(const GcmForm& form, const uint8_t* aad, size_t aad_bytes);

  /** What lies at pIv: what was put there, or what the module wrote. */
  const uint8_t* iv() const { return iv_.data(); }

 private:
  CK_MECHANISM* Lay(GcmLayout layout, size_t iv_bytes, size_t iv_bits, const uint8_t* aad, size_t aad_bytes);

  std::array<uint8_t, cell::kIvBytesMax> iv_{};
  std::vector<uint8_t> aad_;
  CK_GCM_PARAMS with_iv_bits_{};
  /** With room behind it that is ours: a module which expects the other layout and does not look at the length. */
  struct {
    CK_GCM_PARAMS_WITHOUT_IV_BITS parameters;
    CK_ULONG room;
  } without_iv_bits_{};
  CK_MECHANISM mechanism_{};
};

}  // namespace xksd
