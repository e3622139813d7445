/* lib/tls_server.h - the server's side of TLS for tests: on a connection that a test has accepted.
 *
 * It has no part in the loop: what waits turns the loop until the client under test has done its
 * part.
 * Loop:   of the test's thread; none of this may be called from within a turn.
 * Memory: embedded; connections are the test's to close.
 * Limits: waiting longer than DRIVER_SECONDS fails the test.
 */
#ifndef WEFT_TESTS_LIB_TLS_SERVER_H
#define WEFT_TESTS_LIB_TLS_SERVER_H

#include "loop/loop.h"
#include <stdbool.h>
#include <stddef.h>

/* One with a certificate. */
struct tls_server {
    struct loop *loop; /* the client's, which is turned */
    void *context;     /* OpenSSL's */
    /* The caller's; must outlive it. */
    const struct tls_server_options *options;
};

/* How it behaves. Zeroed: as good servers do. */
struct tls_server_options {
    bool is_12_only;   /* no TLS 1.3 */
    bool wants_client; /* a certificate of the client, by the authority ca.crt */
    /* ALPN: what it speaks, and refuses others; NULL: it knows nothing of that. */
    const char *protocol;
    bool insists; /* it chooses `protocol` whether that is offered or not */
};

/* With the certificate `name` of those in `folder` that tests/tools/certificates has made. */
void tls_server_init(struct tls_server *server, struct loop *loop, const char *folder,
                     const char *name, const struct tls_server_options *options);

/* Zeroed and twice is fine. */
void tls_server_deinit(struct tls_server *server);

/* Shakes hands on `fd`, which is its from now on; NULL: it failed, and fd is closed. */
void *tls_server_accept(struct tls_server *server, int fd);

/* Waits until a whole request without a body was received. */
void tls_server_request(struct tls_server *server, void *connection, char *text, size_t size);

/* Sends all of `text`. */
void tls_server_send(struct tls_server *server, void *connection, const char *text, size_t size);

/* Was a protocol agreed on (ALPN)? */
bool tls_server_has_protocol(void *connection);

/* Did the client use a session again? */
bool tls_server_is_resumed(void *connection);

/* Closes it; `goodbye`: as TLS wants it. */
void tls_server_close(void *connection, bool goodbye);

/* Makes the certificates in `folder`; skips the test where there is no openssl program. */
void tls_make_certificates(const char *folder);

#endif
