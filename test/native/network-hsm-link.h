/*
 * The client half's way to the server. Beside the module lies <module>.network, three lines:
 *
 *   the path of the server's socket;
 *   the CK_RV of every call while the server cannot be reached, and of the calls on the way when it goes;
 *   `reconnect` or `initialize`: whether the module takes up with a server that is back by itself, or only in the next
 *   C_Initialize. Either way its sessions and its login are gone: CKR_SESSION_HANDLE_INVALID.
 */
#ifndef XKSD_TEST_NETWORK_HSM_LINK_H
#define XKSD_TEST_NETWORK_HSM_LINK_H

#include "network-hsm.h"

/* C_Initialize and C_Finalize. */
CK_RV link_initialize(void);
CK_RV link_finalize(void);

/* A session's number to the application, from the server's and back: it holds with one process of the server only. */
CK_SESSION_HANDLE session_of_application(CK_SESSION_HANDLE servers);
/* @returns 0 for one that is of the past, or was never given. */
int session_of_server(CK_SESSION_HANDLE session, CK_SESSION_HANDLE* servers);

/*
 * An empty message of this thread's, to be filled for `call`. `*rv` is CKR_OK, or what the application is to be told at
 * once (NULL then).
 */
struct message* begin_call(enum call call, CK_RV* rv);

/* Sends it, and turns it into the answer, past its CK_RV. @returns that, or that the server is gone. */
CK_RV finish_call(struct message* message);

#endif
