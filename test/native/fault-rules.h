/*
 * What a faulty module is told to do: the rules in a file, and which of them hold for a call.
 *
 *   FUNCTION ACTION [ARGUMENT] [TIMES [EVERY]] [SHARE%] [id=HEX] [label=TEXT] [pid=NUMBER]
 *
 *     C_Encrypt fail 0x5          returns CKR_GENERAL_ERROR, every time
 *     C_Encrypt fail 0x5 1%       for one call in a hundred, drawn
 *     C_Decrypt fail 0x5 -1 100   every hundredth call (TIMES below 0: without end)
 *     C_Encrypt flip - 1          flips a bit of the first output
 *     C_Decrypt hang - 1          says so on the socket and waits until that is closed
 *     * delay 1.5                 1.5 ms before each call; the rules after it hold too
 *     C_Encrypt signal 11 1       ends the process as a segmentation fault does
 *     C_Encrypt close-sessions    closes every session on the slot before the call
 *     C_Encrypt logout            logs out before the call
 *     C_Decrypt fail 0x5 id=0a1b  only with the object that has this CKA_ID: the one that C_EncryptInit or
 *                                 C_DecryptInit was given, for them and for the call after them on the same thread
 *     * hang - label=text         the same by CKA_LABEL (without blanks)
 *     C_Encrypt signal 6 pid=123  only in this process
 *
 * FUNCTION may be * for all of them. The first rule that fits holds. Five lines speak of the token as a whole:
 *
 *     handles swap                the two objects found last have each other's number from now on, as on a token that
 *                                 numbered them anew
 *     token removed               no slot has a token, sessions are gone: CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT
 *     iv append|in-place|zero-in|stays-zero|replaces [PERIOD]
 *                                 who makes the IV of an encryption (iv-modes.h); the same ones come again after PERIOD
 *     bad-tag 0x6                 what C_Decrypt returns where the real one refuses a ciphertext
 *     parameters without-iv-bits  CK_GCM_PARAMS is taken in the layout without ulIvBits only
 *
 * The file is looked at in every call (one stat(2)) and read when it is another one or has changed. TIMES counts in each
 * process by itself, and anew whenever the file is read.
 */
#ifndef XKSD_TEST_FAULT_RULES_H
#define XKSD_TEST_FAULT_RULES_H

#include "pkcs11-more.h"

enum action { NOTHING, FAIL, FLIP, HANG, SIGNAL, CLOSE_SESSIONS, LOGOUT };
enum iv_mode { IV_OF_CALLER, IV_APPENDED, IV_IN_PLACE, IV_ZERO_IN, IV_STAYS_ZERO, IV_REPLACES };

/* What is to happen in one call. */
struct fault {
  enum action action;
  unsigned long argument; /* of FAIL the CK_RV, of SIGNAL its number */
  unsigned long delay_micros;
  int handles_swapped;
  enum iv_mode iv_mode;
  /* After so many IVs they come again; 0: never. */
  unsigned long iv_period;
  int without_iv_bits;
  /* 0: as the real module says it. */
  CK_RV bad_tag;
  /* 0 while the token is there, else which removal this is. */
  unsigned long removal;
};

#define OBJECT_ID_BYTES_MAX 64
#define OBJECT_LABEL_BYTES_MAX 64

/* An object as rules know it; empty where it has none or could not be asked. */
struct object {
  CK_BYTE id[OBJECT_ID_BYTES_MAX];
  CK_ULONG id_bytes;
  char label[OBJECT_LABEL_BYTES_MAX + 1];
};

void rules_open(const char* path);

/* Whether any rule asks which object a call is about. */
int rules_know_objects(void);

/* `object`: NULL for a call that is about none. */
struct fault fault_in(const char* function, const struct object* object);

#endif
