/* net/tls.h - TLS on a connected socket, as a client (the one user of openssl/ssl.h but for one
 * question of the pg room).
 *
 * A stream does the reading and writing (stream_start_tls()); this is what it reads and writes
 * through. TLS 1.2 at least; ALPN offers http/1.1 alone.
 *
 * Loop:   of one loop; nothing blocks.
 * Memory: a context is shared by the connections of one kind, and outlives them.
 * Limits: TLS_SESSIONS_MAX sessions are kept for each peer.
 */
#ifndef WEFT_NET_TLS_H
#define WEFT_NET_TLS_H

#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tls;
struct tls_context;

/* Room for what is wrong with a certificate or a key. */
enum { TLS_PROBLEM_SIZE = 320 };

/* How a client behaves. */
struct tls_options {
    const char *ca_path;   /* file of the authorities that are trusted; "": the system's */
    const char *cert_path; /* file with our own certificate and its chain; "": none */
    const char *key_path;  /* its key, not encrypted; "": in cert_path */
    bool is_13_only;       /* not TLS 1.2 */
    bool trusts_anybody;   /* the peer's certificate is not looked at */
};

/* Reads the files, which blocks. NULL: `problem` names the file and says what is wrong. */
struct tls_context *tls_context_create(const struct tls_options *options,
                                       char problem[TLS_PROBLEM_SIZE]);

/* Its connections are gone. NULL is fine. */
void tls_context_destroy(struct tls_context *context);

/* Sessions of one peer, so that the next connection begins faster. The one used last is used first,
 * and each of TLS 1.3 only once. */
enum { TLS_SESSIONS_MAX = 4 };

/* Embed it; zeroed it is empty. */
struct tls_sessions {
    void *_at[TLS_SESSIONS_MAX]; /* `_count` of them, the newest last */
    uint32_t _count;             /* of _at */
};

/* Forgets them; its connections are gone. */
void tls_sessions_clear(struct tls_sessions *sessions);

/* A connection on `fd`, which stays the caller's, before its handshake. `name` is whom the
 * certificate must name, an address too; `sessions` outlives it. */
struct tls *tls_create(struct tls_context *context, int fd, struct span name,
                       struct tls_sessions *sessions) __attribute__((returns_nonnull));

/* Says goodbye where it can, and frees it. NULL is fine. */
void tls_destroy(struct tls *tls);

/* What a handshake wants next. */
enum tls_step { TLS_DONE, TLS_WANTS_READ, TLS_WANTS_WRITE, TLS_FAILED };

/* Goes on with the handshake. TLS_FAILED: tls_problem() says why. */
enum tls_step tls_handshake(struct tls *tls) __attribute__((warn_unused_result));

/* Why the handshake failed, or reading or writing did: a constant for people; NULL: nothing did. */
const char *tls_problem(const struct tls *tls);

/* Did it fail since the peer's certificate is refused? tls_problem() says why that is. */
bool tls_is_distrusted(const struct tls *tls);

/* As recv() and send() on a non-blocking socket do; a peer that goes without a goodbye has
 * reset. */
ssize_t tls_recv(struct tls *tls, void *bytes, size_t size);
ssize_t tls_send(struct tls *tls, const void *bytes, size_t size);

/* Are there bytes that were received and not yet read, which the kernel knows nothing of? */
bool tls_has_unread(const struct tls *tls);

/* Is there nothing to be read: neither bytes nor an end nor an error? Takes what is the protocol's
 * own. */
bool tls_is_quiet(struct tls *tls);

#endif
