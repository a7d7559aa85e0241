#include "gcm_parameters.h"

#include <string.h>

namespace xksd {

GcmForm GcmForm::FromFlags(uint32_t flags) {
  GcmForm form;
  const uint32_t source = flags >> cell::kFlagIvSourceShift & cell::kFlagIvSourceMask;
  if (source == static_cast<uint32_t>(IvSource::kAppended)) form.iv_source = IvSource::kAppended;
  if (source == static_cast<uint32_t>(IvSource::kInPlace)) form.iv_source = IvSource::kInPlace;
  if ((flags & cell::kFlagWithoutIvBits) != 0) form.layout = GcmLayout::kWithoutIvBits;
  return form;
}

CK_MECHANISM* GcmParameters::WithIv(GcmLayout layout, const uint8_t* iv, size_t iv_bytes, const uint8_t* aad,
                                    size_t aad_bytes) {
  memcpy(iv_.data(), iv, iv_bytes);
  return Lay(layout, iv_bytes, iv_bytes * 8, aad, aad_bytes);
}

CK_MECHANISM* GcmParameters::WithoutIv(const GcmForm& form, const uint8_t* aad, size_t aad_bytes) {
  iv_.fill(0);
  return Lay(form.layout, form.iv_source == IvSource::kAppended ? 0 : kIvBytes, kIvBytes * 8, aad, aad_bytes);
}

CK_MECHANISM* GcmParameters::Lay(GcmLayout layout, size_t iv_bytes, size_t iv_bits, const uint8_t* aad,
                                 size_t aad_bytes) {
  aad_.assign(aad, aad + aad_bytes);
  CK_BYTE* const aad_at = aad_bytes == 0 ? nullptr : aad_.data();
  constexpr CK_ULONG kTagBits = cell::kTagBytes * 8;
  if (layout == GcmLayout::kWithIvBits) {
    with_iv_bits_ = CK_GCM_PARAMS{iv_.data(), iv_bytes, iv_bits, aad_at, aad_bytes, kTagBits};
    mechanism_ = CK_MECHANISM{CKM_AES_GCM, &with_iv_bits_, sizeof with_iv_bits_};
  } else {
    without_iv_bits_.parameters = CK_GCM_PARAMS_WITHOUT_IV_BITS{iv_.data(), iv_bytes, aad_at, aad_bytes, kTagBits};
    mechanism_ =
        CK_MECHANISM{CKM_AES_GCM, &without_iv_bits_.parameters, sizeof without_iv_bits_.parameters};
  }
  return &mechanism_;
}

}  // namespace xksd
