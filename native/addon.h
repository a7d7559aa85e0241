// What the files of the addon export. Each has one Define…Functions that adds its functions to an environment's
// exports; addon.cc composes them. Process-wide state stays inside those files, guarded; everything else belongs to
// one environment (thread).
#pragma once

#include <napi.h>

namespace xksd {

/** PKCS#11: loading modules, and the sessions of the cryptographic hot path (pkcs11_binding.cc and what it names). */
void DefinePkcs11Functions(Napi::Env env, Napi::Object exports);
/** Processes and sockets, as in the first part of NativeBinding (process.cc). */
void DefineProcessFunctions(Napi::Env env, Napi::Object exports);
/** The check of a SigV4 signature (sigv4_binding.cc). */
void DefineSigV4Functions(Napi::Env env, Napi::Object exports);

}  // namespace xksd
